// Writes what became of a chunk: its output rows in the output's own format, and its failed rows beside them. A part
// counts when its record is there, and the first record stays: a chunk that ran twice leaves one part.
import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DuckDBConnection } from '@duckdb/node-api';
import { type ErrorCode, giveBack, type Tensors } from '@millrace/protocol';
import { keepParquetRows, type OpenChunk } from './chunk.ts';
import { csvText } from './csv-text.ts';
import { piecesOf } from './disk.ts';
import { copyTo, engineFailure, rowsOfQuery } from './engine.ts';
import { originalsOf } from './originals.ts';
import { appendOutcome, createOutcomeTable } from './outcome-table.ts';
import type { Plan } from './plan.ts';
import { chunkName } from './stage.ts';
import { type PartContent, partOptions, partSelect } from './write-sql.ts';
import type { WorkPlace } from './work-place.ts';

/** Rows that ran together. */
export interface RowsDone {
  /** Their positions in the chunk. */
  readonly positions: Int32Array;
  /** By output name; `[rows, …]`. */
  readonly outputs: Tensors;
  /** One a row, where the plan has labels. */
  readonly labels?: readonly string[];
}

/** A row that the model refused, or that failed for good otherwise. */
export interface RowFailed {
  readonly position: number;
  readonly code: ErrorCode;
  readonly reason: string;
}

export interface Outcome {
  readonly done: readonly RowsDone[];
  readonly failed: readonly RowFailed[];
}

export interface PartFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly sha256: string;
}

export interface Part {
  readonly chunk: number;
  readonly firstRow: number;
  readonly rows: number;
  /** Of these rows, how many are in the output; the others are in the errors. */
  readonly written: number;
  readonly data: PartFile;
  readonly errors: PartFile | undefined;
}

/**
 * Writes the chunk's part and returns it; where there is one already, that one. Rows that could not be read are added to
 * those that failed. Throws MillraceError `storage-unavailable` or `input-changed`, and a plain Error where a row has no outcome or two.
 */
export async function writePart(plan: Plan, open: OpenChunk, outcome: Outcome, { work }: { readonly work: WorkPlace }): Promise<Part> {
  const { chunk } = open;
  const failed = [...open.refused.map(({ position, reason }): RowFailed => ({ position, code: 'invalid-row', reason })), ...outcome.failed].sort((a, b) => a.position - b.position);
  checkComplete(chunk.rows, [...outcome.done.map(({ positions }) => positions), failed.map(({ position }) => position)]);
  await keepParquetRows(plan, open);
  const data = await putFile(work, chunkName(chunk.index), plan.outputFormat, (path) => writeRows(plan, open, outcome, path));
  const errors = failed.length > 0
    ? await putFile(work, `${chunkName(chunk.index)}-errors`, 'ndjson', async (path) => writeText(path, Buffer.from(await errorLines(plan, open, failed))))
    : undefined;
  // The ids, the carried columns and the originals were read just now.
  await open.checkUnchanged();
  const part: Part = { chunk: chunk.index, firstRow: chunk.firstRow, rows: chunk.rows, written: chunk.rows - failed.length, data, errors };
  return commit(work, part);
}

export function partRecordName(chunk: number): string {
  return `parts/${chunkName(chunk)}.json`;
}

export async function readPart(work: WorkPlace, chunk: number): Promise<Part | undefined> {
  const text = await work.readText(partRecordName(chunk));
  return text === undefined ? undefined : JSON.parse(text) as Part;
}

/** Forgets a part, so that its chunk can run again: for rows that failed and may not fail twice. */
export async function forgetPart(work: WorkPlace, { chunk, data, errors }: Part): Promise<void> {
  await work.remove([partRecordName(chunk), data.name, ...(errors ? [errors.name] : [])]);
}

/** The record is what counts; whoever comes second takes the files of the first for its own. */
async function commit(work: WorkPlace, part: Part): Promise<Part> {
  const name = partRecordName(part.chunk);
  if (await work.writeFirst(name, JSON.stringify(part))) return part;
  const first = await readPart(work, part.chunk);
  if (!first) throw new Error(`${name} is taken, and not there`);
  const kept = new Set([first.data.name, first.errors?.name]);
  await work.remove([part.data.name, ...(part.errors ? [part.errors.name] : [])].filter((file) => !kept.has(file)));
  return first;
}

function checkComplete(rows: number, outcomes: readonly (Int32Array | readonly number[])[]): void {
  const seen = new Uint8Array(rows);
  for (const positions of outcomes) for (const position of positions) seen[position] = (seen[position] ?? 0) + 1;
  const wrong = seen.findIndex((times) => times !== 1);
  if (wrong !== -1 || outcomes.reduce((sum, { length }) => sum + length, 0) !== rows) throw new Error(`row ${wrong} of a chunk has ${seen[wrong]} outcomes, and not one`);
}

/** Files are named by their content: a second writer's other content never takes the place of the first's. */
async function putFile(work: WorkPlace, stem: string, extension: string, write: (path: string) => Promise<Digest>): Promise<PartFile> {
  const path = await work.newFile(join('parts', `${stem}.${extension}`));
  try {
    const { sha256, sizeBytes } = await write(path);
    const name = `parts/${stem}-${sha256.slice(0, 16)}.${extension}`;
    await work.put(name, path);
    return { name, sizeBytes, sha256 };
  } catch (error) {
    await rm(path, { force: true });
    throw engineFailure(error);
  }
}

export interface Digest {
  readonly sha256: string;
  readonly sizeBytes: number;
}

async function writeText(path: string, text: Uint8Array): Promise<Digest> {
  await writeFile(path, text);
  return { sha256: createHash('sha256').update(text).digest('hex'), sizeBytes: text.length };
}

export async function digestOf(path: string): Promise<Digest> {
  const hash = createHash('sha256');
  let sizeBytes = 0;
  for await (const piece of piecesOf(path)) {
    hash.update(piece);
    sizeBytes += piece.length;
  }
  return { sha256: hash.digest('hex'), sizeBytes };
}

async function writeRows(plan: Plan, { chunk, connection, kept }: OpenChunk, { done }: Outcome, path: string): Promise<Digest> {
  const text = csvText(plan, done, { ...chunk, kept });
  if (text) {
    const digest = await writeText(path, text);
    giveBack(text);
    return digest;
  }
  await createOutcomeTable(connection, plan);
  const finite = await appendOutcome(connection, plan, done);
  const content: PartContent = { firstRow: chunk.firstRow, ordered: isOrdered(done), finite };
  const rows = await copyTo(connection, { select: partSelect(plan, content), path, options: partOptions(plan.outputFormat) });
  const expected = done.reduce((sum, { positions }) => sum + positions.length, 0);
  if (rows !== expected) throw new Error(`a part has ${rows} rows, and should have ${expected}`);
  return digestOf(path);
}

function isOrdered(done: readonly RowsDone[]): boolean {
  let last = -1;
  return done.every(({ positions }) => positions.every((position) => {
    const later = position > last;
    last = position;
    return later;
  }));
}

async function errorLines(plan: Plan, open: OpenChunk, failed: readonly RowFailed[]): Promise<string> {
  const { chunk, connection, source } = open;
  const positions = failed.map(({ position }) => position);
  const originals = await originalsOf(plan, chunk, { source, positions, connection });
  const ids = plan.id ? await idsOf(connection, positions) : undefined;
  const file = plan.source.files[chunk.file]?.uri;
  return failed.map(({ position, code, reason }) => {
    const { text, line } = originals.get(position) ?? { text: null, line: undefined };
    return `${JSON.stringify({ row: chunk.firstRow + position, ...(ids && { id: ids.get(position) ?? null }), file, line, code, reason, original: text })}\n`;
  }).join('');
}

async function idsOf(connection: DuckDBConnection, positions: readonly number[]): Promise<ReadonlyMap<number, string | null>> {
  const rows = await rowsOfQuery(connection, `SELECT rowid, k0::VARCHAR FROM __kept WHERE rowid IN (${positions.join(', ')})`);
  return new Map(rows.map(([position, id]) => [Number(position), id === null || id === undefined ? null : String(id)]));
}
