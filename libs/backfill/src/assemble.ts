// Puts the parts together, in order: the output, the error file, the manifest. Text is copied byte by byte, as the
// workers wrote it; Parquet goes through DuckDB once more. Nothing stands under a final name before all of it is known to be whole.
import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import { MillraceError } from '@millrace/protocol';
import { csvField } from './csv-text.ts';
import { piecesOf, storageFailure } from './disk.ts';
import { copyTo, type Engine } from './engine.ts';
import { type Manifest, manifestOf, type RunFacts } from './manifest.ts';
import { type Digest, digestOf, type Part, type PartFile } from './part.ts';
import type { Plan } from './plan.ts';
import { readParts } from './progress.ts';
import { literal } from './sql.ts';
import { readTotals } from './stage.ts';
import { namesBeside, type Target } from './target.ts';
import type { WorkPlace } from './work-place.ts';
import { outputColumns } from './write-sql.ts';

export interface AssembleOptions {
  readonly work: WorkPlace;
  readonly engine: Engine;
  readonly target: Target;
  readonly facts: RunFacts;
  readonly signal?: AbortSignal | undefined;
  /** Told how many rows of the output are written. */
  readonly onProgress?: (rows: number) => void;
}

/**
 * Writes the output, its error file and its manifest; doing it twice does no harm. Throws MillraceError
 * `storage-unavailable`, and a plain Error where a chunk lacks its part or the counts disagree.
 */
export async function assemble(plan: Plan, options: AssembleOptions): Promise<Manifest> {
  const { work, target, facts } = options;
  const parts = await completeParts(work);
  const written = parts.reduce((sum, part) => sum + part.written, 0);
  const rows = parts.reduce((sum, part) => sum + part.rows, 0);
  const names = namesBeside(plan.data.output.uri);
  const output = await target.draft(names.output, facts.id);
  const errors = await target.draft(names.errors, facts.id);
  const failures = parts.flatMap((part) => (part.errors ? [part.errors] : []));
  try {
    const outputFile = plan.outputFormat === 'parquet' ? await mergeParquet(parts, written, output, options) : await joinText(parts.map(({ data }) => data), headerOf(plan), output, options);
    const errorFile = failures.length > 0 ? await joinText(failures, '', errors, options) : undefined;
    options.signal?.throwIfAborted();
    const manifest = manifestOf(facts, {
      input: { uri: plan.data.input.uri, files: plan.source.files, rows },
      chunks: parts.length,
      format: plan.outputFormat,
      output: { uri: names.output, rows: written, ...outputFile },
      errors: errorFile && { uri: names.errors, rows: rows - written, ...errorFile },
    });
    await refuseTaken(plan, options);
    await target.publish(output, names.output);
    if (errorFile) await target.publish(errors, names.errors);
    else await target.remove(names.errors);
    await target.publishText(`${JSON.stringify(manifest, null, 2)}\n`, names.manifest);
    for (const name of [names.output, names.errors]) await target.removeDrafts(name, facts.id);
    return manifest;
  } finally {
    await rm(output, { force: true });
    await rm(errors, { force: true });
  }
}

const publishingName = 'publishing.json';

/** What was not there when the backfill was checked, and is not its own from a time before. */
async function refuseTaken({ data: { output } }: Plan, { work, target }: AssembleOptions): Promise<void> {
  if (output.overwrite || await work.readText(publishingName) !== undefined) return;
  const [taken] = await target.taken(namesBeside(output.uri));
  if (taken !== undefined) throw new MillraceError('invalid-backfill', `${taken} is there by now: move it away and resume`, { faults: [{ pointer: '#/output/uri', detail: 'the name was taken while the backfill ran' }] });
  await work.writeText(publishingName, '{}');
}

/** Half of DuckDB's own: with two threads, 5,000,000 rows of 10 float32 take 98 MB in place of 111. */
const rowGroupRows = 65_536;

/** Every chunk has its part, and the rows of one begin where those of the last end. */
async function completeParts(work: WorkPlace): Promise<readonly Part[]> {
  const totals = await readTotals(work);
  if (!totals) throw new Error('the input is not staged to its end');
  const found = await readParts(work);
  const parts: Part[] = [];
  let nextRow = 1;
  for (let chunk = 0; chunk < totals.chunks; chunk++) {
    const part = found.get(chunk);
    if (!part) throw new Error(`chunk ${chunk} has no part`);
    if (part.firstRow !== nextRow) throw new Error(`chunk ${chunk} begins at row ${part.firstRow}, and should at ${nextRow}`);
    nextRow += part.rows;
    parts.push(part);
  }
  if (nextRow - 1 !== totals.rows || found.size !== totals.chunks) throw new Error(`the parts hold ${nextRow - 1} rows in ${found.size} chunks, and the input has ${totals.rows} in ${totals.chunks}`);
  return parts;
}

function headerOf(plan: Plan): string {
  if (plan.outputFormat !== 'csv') return '';
  return `${outputColumns(plan).map(csvField).join(',')}\n`;
}

async function joinText(files: readonly PartFile[], header: string, path: string, { work, signal }: AssembleOptions): Promise<Digest> {
  const whole = createHash('sha256');
  let sizeBytes = 0;
  try {
    const to = await open(path, 'w');
    try {
      const write = async (bytes: Uint8Array): Promise<void> => {
        whole.update(bytes);
        sizeBytes += bytes.length;
        await writeAll(to, bytes);
      };
      if (header !== '') await write(Buffer.from(header));
      for (const file of files) await copyChecked(file, work, write, signal);
    } finally {
      await to.close();
    }
  } catch (error) {
    throw storageFailure(path, error);
  }
  return { sha256: whole.digest('hex'), sizeBytes };
}

async function writeAll(to: FileHandle, bytes: Uint8Array): Promise<void> {
  let at = 0;
  while (at < bytes.length) at += (await to.write(bytes, at)).bytesWritten;
}

async function copyChecked(file: PartFile, work: WorkPlace, write: (bytes: Uint8Array) => Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  const copy = await work.fetch(file.name);
  try {
    const hash = createHash('sha256');
    for await (const piece of piecesOf(copy.path, { signal })) {
      hash.update(piece);
      await write(piece);
    }
    checkDigest(file, hash);
  } finally {
    await copy.release();
  }
}

function checkDigest({ name, sha256 }: PartFile, hash: Hash): void {
  if (hash.digest('hex') !== sha256) throw damaged(name);
}

function damaged(name: string): MillraceError {
  return new MillraceError('storage-unavailable', `${name} is not what was written there`);
}

async function mergeParquet(parts: readonly Part[], written: number, path: string, { work, engine, signal }: AssembleOptions): Promise<Digest> {
  const copies = [];
  try {
    for (const { data } of parts) {
      const copy = await work.fetch(data.name);
      copies.push(copy);
      if ((await digestOf(copy.path)).sha256 !== data.sha256) throw damaged(data.name);
    }
    const select = `FROM read_parquet([${copies.map((copy) => literal(copy.path)).join(', ')}])`;
    const rows = await engine.use((connection) => copyTo(connection, { select, path, options: `FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE ${rowGroupRows}` }), signal);
    if (rows !== written) throw new Error(`the output has ${rows} rows, and should have ${written}`);
  } finally {
    for (const copy of copies) await copy.release();
  }
  return digestOf(path);
}

