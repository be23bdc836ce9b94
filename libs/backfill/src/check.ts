// Opens a backfill's input before anything runs, and says all that is wrong with it: places, files, columns, first rows.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FaultList, MillraceError, type Signature } from '@millrace/protocol';
import { openChunk } from './chunk.ts';
import { checkDescription, formatOf } from './description.ts';
import type { Engine } from './engine.ts';
import type { BackfillData } from './job.ts';
import type { LocalInputs } from './local-inputs.ts';
import { checkNames, mapColumns, mapOutputs } from './mapping.ts';
import type { ObjectStore } from './object-store.ts';
import type { Places } from './places.ts';
import { type ChunkLimits, defaultLimits, type InputPlan, type OutputPlan, type Plan, widthOf } from './plan.ts';
import { type InputSchema, readParquetSchema, readTextSchema } from './schema.ts';
import { findSource } from './source.ts';
import { firstChunk } from './stage.ts';
import { namesBeside, type Target } from './target.ts';
import { WorkFolder } from './work-place.ts';
import { outputColumns } from './write-sql.ts';

export interface CheckOptions {
  readonly signature: Signature;
  /** Whether each row is given a label beside its outputs. */
  readonly labels: boolean;
  readonly places: Places;
  readonly target: Target;
  readonly engine: Engine;
  readonly inputs: LocalInputs;
  readonly scratchFolder: string;
  readonly objects?: ObjectStore | undefined;
  readonly limits?: ChunkLimits;
}

/** Everything that the backfill's run needs to know. Throws MillraceError, with all faults that can be told at once. */
export async function checkBackfill(data: BackfillData, options: CheckOptions): Promise<Plan> {
  const { signature, places, target, engine, inputs, objects, limits = defaultLimits } = options;
  places.input(data.input.uri);
  await places.output(data.output.uri);
  const files = await findSource(data.input.uri, { places, objects });
  const faults = new FaultList();
  checkDescription(data, signature, faults);
  const format = formatOf(data.input, files.map(({ uri }) => uri), '#/input', faults);
  const outputFormat = formatOf(data.output, [data.output.uri], '#/output', faults);
  const taken = data.output.overwrite ? [] : await target.taken(namesBeside(data.output.uri));
  for (const uri of taken) faults.add('#/output/uri', `${uri} is there already: name another, or allow "overwrite"`);
  if (!format || !outputFormat) throw invalid(faults);

  const source = { format, encoding: data.input.encoding ?? 'utf-8' as const, files, ...(format === 'csv' && { csv: dialectFor(data) }) };
  const schema = format === 'parquet' ? await readParquetSchema(files, engine, inputs) : await readTextSchema(source, limits.rowBytes, objects);
  const { inputs: inputPlans, id, carry } = mapColumns({ data, format, signature, schema }, faults);
  const outputs = mapOutputs(signature, data.output, outputFormat, faults);
  const plan: Plan = {
    formatVersion: 1, data,
    source: { ...source, columns: schema.columns.map(({ name }) => name), ...(schema.rowGroups && { rowGroups: schema.rowGroups }) },
    inputs: inputPlans, ...(id && { id }), carry, outputFormat, outputs, labels: options.labels,
    limits: { ...limits, rows: rowLimit([...inputPlans, ...outputs], limits) },
  };
  checkNames(outputColumns(plan), faults);
  if (faults.faults.length > 0) throw invalid(faults);
  checkHasRows(schema, data.input.uri);
  await checkFirstRows(plan, options);
  return plan;
}

function dialectFor({ input: { uri, delimiter, quote = '"', escape, header = true } }: BackfillData): NonNullable<Plan['source']['csv']> {
  return { delimiter: delimiter ?? (/\.tsv(\.gz)?$/i.test(uri) ? '\t' : ','), quote, escape: escape ?? quote, header };
}

function invalid({ faults }: FaultList): MillraceError {
  const [first] = faults;
  return new MillraceError('invalid-backfill', faults.length === 1 ? first?.detail ?? '' : `${faults.length} things do not fit: ${first?.detail}`, { faults });
}

/** As many as fit into the bytes of a chunk with what comes of them: an image may have a megabyte, and a segmentation too. */
function rowLimit(tensors: readonly Pick<InputPlan | OutputPlan, 'rowShape'>[], { rows, bytes }: ChunkLimits): number {
  const rowBytes = tensors.reduce((sum, { rowShape }) => sum + 4 * (widthOf(rowShape) ?? 1), 0);
  return Math.max(1, Math.min(rows, Math.floor(bytes / rowBytes)));
}

function checkHasRows({ rowGroups }: InputSchema, uri: string): void {
  if (rowGroups && rowGroups.flat().every((rows) => rows === 0)) throw new MillraceError('unreadable-input', `${uri} has no rows`);
}

const sampleRows = 100;

/** One bad row is a matter of the error file; where none of the first fits, the description is wrong. */
async function checkFirstRows(plan: Plan, options: CheckOptions): Promise<void> {
  await mkdir(options.scratchFolder, { recursive: true });
  const folder = await mkdtemp(join(options.scratchFolder, 'check-'));
  try {
    const work = new WorkFolder(folder);
    const chunk = await firstChunk({ ...plan, limits: { ...plan.limits, rows: sampleRows } }, { ...options, work });
    if (!chunk) throw new MillraceError('unreadable-input', `${plan.data.input.uri} has no rows`);
    const open = await openChunk(plan, chunk, { ...options, work });
    await open.close();
    const [first] = open.refused;
    if (first && open.refused.length === chunk.rows) {
      throw new MillraceError('invalid-backfill', `none of the first ${chunk.rows} rows can be taken: ${first.reason}`, { faults: [{ pointer: '#/input', detail: first.reason }] });
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
