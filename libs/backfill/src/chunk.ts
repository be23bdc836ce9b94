// Reads one chunk for a worker: tensors ready for the model, and the rows that cannot become any.
//
// A block is read typed and whole; only where that fails, or gives another number of rows than were counted when it was
// staged, is it taken apart row by row. So clean data is parsed at DuckDB's speed, and every row is accounted for.
import type { DuckDBConnection } from '@duckdb/node-api';
import duckdb from '@duckdb/node-bindings';
import { giveBack, MillraceError } from '@millrace/protocol';
import { dialectOf } from './blocks.ts';
import { hasSpacedQuotes, hasUnderscores } from './csv-records.ts';
import { type Engine, engineFailure } from './engine.ts';
import { groupRows, type RowGroup } from './groups.ts';
import { type ChunkSource, type LocalInputs, wholeFile } from './local-inputs.ts';
import { type Chunk, isText, type Plan, type SourceFile, usedColumns } from './plan.ts';
import { mayBePlain, type PlainRows, readPlainNumbers } from './plain-numbers.ts';
import { keptSql, parquetSql, selectInputs, sourceSql, type Mode } from './read-sql.ts';
import { refusalOf } from './refusal.ts';
import { takeApart } from './take-apart.ts';
import { createTextTable } from './text-table.ts';
import { InputBuffer, type InputValues } from './vectors.ts';
import type { WorkPlace } from './work-place.ts';

export interface ChunkOptions {
  readonly work: WorkPlace;
  readonly engine: Engine;
  /** The files that chunks are read from which are not staged as blocks. */
  readonly inputs: LocalInputs;
  readonly signal?: AbortSignal | undefined;
}

export interface RefusedRow {
  /** In the chunk, from 0. */
  readonly position: number;
  readonly reason: string;
}

/** A chunk that is being worked on; `close` gives back what it holds. */
export interface OpenChunk {
  readonly chunk: Chunk;
  /** One for each shape that rows have: one, unless the model takes rows of varying length. */
  readonly groups: readonly RowGroup[];
  readonly refused: readonly RefusedRow[];
  /** The id and the carried columns as texts, where they are at hand; else DuckDB has them. */
  readonly kept?: PlainRows['kept'] | undefined;
  /** Holds the table `__kept`: the id and the carried columns of every row, in order, where the plan has any. */
  readonly connection: DuckDBConnection;
  readonly source: ChunkSource;
  /** Throws MillraceError `input-changed` where what was read of a Parquet file since may be another's. */
  checkUnchanged(): Promise<void>;
  close(): Promise<void>;
}

/** Throws MillraceError `input-changed`, `unreadable-input` or `storage-unavailable`. */
export async function openChunk(plan: Plan, chunk: Chunk, options: ChunkOptions): Promise<OpenChunk> {
  const { engine, inputs, signal } = options;
  const file = plan.source.files[chunk.file];
  if (!file) throw new Error(`chunk ${chunk.index} points outside its plan`);
  const source = await sourceOf(chunk, file, options);
  const connection = await engine.connect();
  const interrupt = (): void => connection.interrupt();
  signal?.addEventListener('abort', interrupt);
  const checkUnchanged = async (): Promise<void> => {
    if (!isText(chunk.data)) await inputs.checkUnchanged(file);
  };
  const close = async (): Promise<void> => {
    signal?.removeEventListener('abort', interrupt);
    connection.closeSync();
    await source.release();
  };
  try {
    signal?.throwIfAborted();
    const read = await readChunk({ plan, chunk, source, connection, signal });
    await checkUnchanged();
    return { chunk, ...read, connection, source, checkUnchanged, close };
  } catch (error) {
    await close();
    signal?.throwIfAborted();
    throw readFailure(error, file.uri);
  }
}

async function sourceOf({ data }: Chunk, file: SourceFile, { work, inputs }: ChunkOptions): Promise<ChunkSource> {
  if ('block' in data) return wholeFile(await work.fetch(data.block));
  return isText(data) ? inputs.range(file, data) : wholeFile(await inputs.open(file));
}

interface Reading {
  readonly plan: Plan;
  readonly chunk: Chunk;
  readonly source: ChunkSource;
  readonly connection: DuckDBConnection;
  readonly signal: AbortSignal | undefined;
}

async function readChunk(reading: Reading): Promise<Pick<OpenChunk, 'groups' | 'refused' | 'kept'>> {
  const { plan, chunk, source, connection, signal } = reading;
  const { plain, inDoubt } = await readPlainly(reading);
  const whole = plain?.inputs ?? (inDoubt ? undefined : await readStrictly(reading));
  if (whole) return { groups: groupRows(whole, chunk.rows, new Set()), refused: [], kept: plain?.kept };
  const apart = isText(chunk.data) ? await takeApart({ plan, chunk, source, connection, signal }) : undefined;
  const inputs = await readInputs(reading, apart ? '__careful' : await parquetRows(source, chunk), 'tolerant');
  if (apart) await keep(reading, '__careful', 'tolerant');
  const reasons = new Map<number, string>(apart?.faults);
  for (const { input, bad } of inputs) {
    for (const [position, element] of bad) {
      if (!reasons.has(position)) reasons.set(position, refusalOf(input.plan, element, (column) => apart?.valueOf(position, column)));
    }
  }
  const refused = [...reasons].map(([position, reason]) => ({ position, reason })).sort((a, b) => a.position - b.position);
  return { groups: groupRows(inputs, chunk.rows, reasons), refused };
}

/** `plain`: undefined where the block holds more than plain numbers; `inDoubt`: whether DuckDB has other rules for its quotes or numbers. */
async function readPlainly({ plan, chunk, source, connection, signal }: Reading): Promise<{ readonly plain?: PlainRows | undefined; readonly inDoubt: boolean }> {
  if (!isText(chunk.data)) return { inDoubt: false };
  const bytes = await source.bytes();
  const plain = mayBePlain(plan) ? await readPlainNumbers(plan, bytes, chunk.rows, signal) : undefined;
  const inDoubt = !plain && (hasSpacedQuotes(bytes, dialectOf(plan.source)) || hasUnderscores(bytes));
  giveBack(bytes);
  if (plain && plain.kept.length > 0) await createTextTable(connection, '__kept', plain.kept.map((_texts, index) => `k${index}`), plain.kept);
  return { plain, inDoubt };
}

/** Undefined where any row is in doubt. */
async function readStrictly(reading: Reading): Promise<readonly InputValues[] | undefined> {
  const { plan, chunk, connection, signal } = reading;
  const keeps = plan.id !== undefined || plan.carry.length > 0;
  try {
    let source = isText(chunk.data) ? sourceSql(plan, await reading.source.path(), chunk.data) : await parquetRows(reading.source, chunk);
    if (keeps && isText(chunk.data)) {
      const used = plan.source.format === 'csv' ? usedColumns(plan).map(({ index }) => `c${index}`) : ['*'];
      await connection.run(`CREATE TEMP TABLE __strict AS SELECT ${used.join(', ')} FROM ${source}`);
      source = '__strict';
    }
    const inputs = await readInputs(reading, source, 'strict');
    if (inputs.some(({ bad, data }) => bad.size > 0 || (isText(chunk.data) && hasInfinity(data)))) return undefined;
    if (source === '__strict') await keep(reading, source, 'strict');
    return inputs;
  } catch (error) {
    signal?.throwIfAborted();
    if (engineFailure(error) !== error) throw error;
    return undefined;
  } finally {
    await connection.run('DROP TABLE IF EXISTS __strict');
  }
}

/** Which DuckDB makes of numbers that are too large: the text tells. */
function hasInfinity(data: InputValues['data']): boolean {
  return (data instanceof Float32Array || data instanceof Float64Array || data instanceof Float16Array) && (data.includes(Infinity) || data.includes(-Infinity));
}

async function readInputs({ plan, chunk, connection, signal }: Reading, source: string, mode: Mode): Promise<readonly InputValues[]> {
  const selected = selectInputs(plan, mode);
  const buffers = selected.map((input) => new InputBuffer(input, chunk.rows));
  const result = await connection.stream(`SELECT ${selected.map(({ sql }) => sql).join(', ')} FROM ${source}`);
  let rows = 0;
  for (;;) {
    const vectors = await result.fetchChunk();
    signal?.throwIfAborted();
    const count = vectors?.rowCount ?? 0;
    if (!vectors || count === 0) break;
    rows += count;
    if (rows > chunk.rows) break;
    for (const [index, buffer] of buffers.entries()) buffer.append(duckdb.data_chunk_get_vector(vectors.chunk, index), count);
  }
  if (rows !== chunk.rows) throw new RowCountDiffers(`chunk ${chunk.index} has ${chunk.rows} rows, and ${rows} were read`);
  return buffers.map((buffer) => buffer.finish());
}

/** The block reads otherwise than it was counted, or the Parquet file was exchanged. */
class RowCountDiffers extends Error {}

/** Keeps what goes from the input to the output until the part is written. */
async function keep({ plan, connection }: Reading, source: string, mode: Mode): Promise<void> {
  const columns = keptSql(plan, mode);
  if (columns.length === 0) return;
  await connection.run(`CREATE TEMP TABLE __kept AS SELECT ${columns.map((sql, index) => `${sql} AS k${index}`).join(', ')} FROM ${source}`);
}

async function parquetRows(source: ChunkSource, { data, rows }: Chunk): Promise<string> {
  if (isText(data)) throw new Error('text is no Parquet file');
  return parquetSql(await source.path(), data.offset, rows);
}

/** The kept columns of a Parquet chunk are read when its part is written: they need not wait in memory. */
export async function keepParquetRows(plan: Plan, { chunk, connection, source }: OpenChunk): Promise<void> {
  if (isText(chunk.data)) return;
  await keep({ plan, chunk, source, connection, signal: undefined }, await parquetRows(source, chunk), 'strict');
}

function readFailure(error: unknown, uri: string): unknown {
  const failure = engineFailure(error);
  if (failure instanceof MillraceError || !(failure instanceof Error)) return failure;
  const [line = ''] = failure.message.split('\n');
  return failure instanceof RowCountDiffers || /^(Invalid Input|IO|Invalid|Conversion|Corrupt)/.test(line)
    ? new MillraceError('unreadable-input', `${uri}: ${line}`, { cause: error })
    : failure;
}

