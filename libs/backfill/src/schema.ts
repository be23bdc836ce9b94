// What an input looks like: its columns, read from the beginning of its first file, or from Parquet's footers.
import { MillraceError } from '@millrace/protocol';
import { dialectOf, markBytes } from './blocks.ts';
import { fieldsOf, isBlank, RecordScanner } from './csv-records.ts';
import { type Engine, rowsOfQuery } from './engine.ts';
import type { LocalInputs } from './local-inputs.ts';
import type { ObjectStore } from './object-store.ts';
import type { Plan, SourceFile } from './plan.ts';
import { openSource } from './source.ts';
import { literal } from './sql.ts';

export interface ColumnSchema {
  readonly name: string;
  /** Parquet: DuckDB's type. */
  readonly type?: string;
}

export interface InputSchema {
  readonly columns: readonly ColumnSchema[];
  /** NDJSON: the first record; CSV: the first row's values, by column. */
  readonly sample: Readonly<Record<string, unknown>>;
  readonly rowGroups?: readonly (readonly number[])[];
}

type Source = Pick<Plan['source'], 'format' | 'encoding' | 'csv' | 'files'>;

export async function readTextSchema(source: Source, rowBytes: number, objects: ObjectStore | undefined): Promise<InputSchema> {
  const [file] = source.files as readonly [SourceFile];
  const [first, second] = await firstRecords(source, file, rowBytes, objects);
  if (!first) throw new MillraceError('unreadable-input', `${file.uri} has no rows`);
  return source.format === 'csv' ? csvSchema(source, file, first, second) : jsonSchema(file, first);
}

async function firstRecords(source: Source, file: SourceFile, rowBytes: number, objects: ObjectStore | undefined): Promise<readonly Uint8Array[]> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  let found: readonly Uint8Array[] = [];
  for await (const piece of openSource(file, { objects, encoding: source.encoding })) {
    pieces.push(piece);
    length += piece.length;
    found = completeRecords(Buffer.concat(pieces), source, file, false);
    if (found.length >= 2 || length > rowBytes) break;
  }
  return found.length >= 2 ? found : completeRecords(Buffer.concat(pieces), source, file, true);
}

function completeRecords(bytes: Buffer, source: Source, file: SourceFile, takeRest: boolean): readonly Uint8Array[] {
  const text = bytes.subarray(markBytes(bytes, file));
  const scanner = new RecordScanner(dialectOf(source));
  const records: Uint8Array[] = [];
  for (let at = 0; at < text.length && records.length < 2;) {
    const next = scanner.next(text, at);
    if (next === -1 && !takeRest) break;
    const end = next === -1 ? text.length : next;
    const record = text.subarray(at, end);
    if (!isBlank(record)) records.push(record);
    at = end;
  }
  return records;
}

function csvSchema(source: Source, file: SourceFile, first: Uint8Array, second: Uint8Array | undefined): InputSchema {
  const header = textsOf(source, file, first);
  const names = source.csv?.header ? header.map((name) => name.trim()) : header.map((_value, index) => `column${index}`);
  const twice = names.find((name, index) => names.indexOf(name) !== index);
  if (twice !== undefined) throw new MillraceError('unreadable-input', `${file.uri}: two columns are named "${twice}"`);
  const row = source.csv?.header ? second : first;
  const parsed = row && fieldsOf(row, dialectOf(source));
  const values = parsed && 'fields' in parsed ? parsed.fields.map((field) => Buffer.from(field).toString()) : [];
  return { columns: names.map((name) => ({ name })), sample: Object.fromEntries(names.map((name, index) => [name, values[index]])) };
}

function textsOf(source: Source, file: SourceFile, record: Uint8Array): readonly string[] {
  const parsed = fieldsOf(record, dialectOf(source));
  if ('fault' in parsed) throw new MillraceError('unreadable-input', `${file.uri}, at line 1: ${parsed.fault}`);
  return parsed.fields.map((field) => Buffer.from(field).toString());
}

function jsonSchema(file: SourceFile, first: Uint8Array): InputSchema {
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(first).toString());
  } catch (cause) {
    throw new MillraceError('unreadable-input', `${file.uri}, at line 1: not JSON`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new MillraceError('unreadable-input', `${file.uri}, at line 1: not a JSON object`);
  return { columns: Object.keys(value).map((name) => ({ name })), sample: value as Record<string, unknown> };
}

/** Reads every file's footer: all must have the first one's columns. */
export async function readParquetSchema(files: readonly SourceFile[], engine: Engine, inputs: LocalInputs): Promise<InputSchema> {
  let columns: readonly ColumnSchema[] | undefined;
  const rowGroups: number[][] = [];
  for (const file of files) {
    const copy = await inputs.open(file);
    try {
      const found = await describeParquet(copy.path, engine);
      columns ??= found.columns;
      if (JSON.stringify(found.columns) !== JSON.stringify(columns)) throw new MillraceError('unreadable-input', `${file.uri}: its columns differ from the first file's`);
      rowGroups.push([...found.rowGroups]);
    } catch (error) {
      if (error instanceof MillraceError || !(error instanceof Error)) throw error;
      throw new MillraceError('unreadable-input', `${file.uri}: ${error.message.split('\n')[0]}`, { cause: error });
    } finally {
      await copy.release();
    }
  }
  return { columns: columns ?? [], sample: {}, rowGroups };
}

async function describeParquet(path: string, engine: Engine): Promise<{ readonly columns: readonly ColumnSchema[]; readonly rowGroups: readonly number[] }> {
  return engine.use(async (connection) => {
    const columns = await rowsOfQuery(connection, `DESCRIBE FROM read_parquet(${literal(path)})`);
    const groups = await rowsOfQuery(connection, `SELECT row_group_id, any_value(row_group_num_rows) FROM parquet_metadata(${literal(path)}) GROUP BY ALL ORDER BY ALL`);
    return { columns: columns.map(([name, type]) => ({ name: String(name), type: String(type) })), rowGroups: groups.map(([, rows]) => Number(rows)) };
  });
}
