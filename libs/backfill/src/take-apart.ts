// A block in doubt, record by record: each becomes a row of the table `__careful`, as text, or a fault; its order is the rows'.
import { isUtf8 } from 'node:buffer';
import { setImmediate as breathe } from 'node:timers/promises';
import type { DuckDBConnection } from '@duckdb/node-api';
import { dialectOf } from './blocks.ts';
import { fieldsOf } from './csv-records.ts';
import { rowsOfQuery } from './engine.ts';
import type { ChunkSource } from './local-inputs.ts';
import { recordsOf } from './originals.ts';
import { type Chunk, type ColumnRef, type Plan, usedColumns } from './plan.ts';
import { createTextTable } from './text-table.ts';

export interface TakenApart {
  /** By position: why the record is no row at all. */
  readonly faults: ReadonlyMap<number, string>;
  /** What stands in a row's column; undefined where nothing does. */
  valueOf(position: number, column: ColumnRef): unknown;
}

/** Other work gets its turn in between. */
const rowsBetweenBreaths = 256;

export async function takeApart({ plan, chunk, source, connection, signal }: {
  readonly plan: Plan; readonly chunk: Chunk; readonly source: ChunkSource; readonly connection: DuckDBConnection; readonly signal?: AbortSignal | undefined;
}): Promise<TakenApart> {
  const used = plan.source.format === 'csv' ? usedColumns(plan) : [];
  const names = plan.source.format === 'csv' ? used.map(({ index }) => `c${index}`) : ['j'];
  const faults = new Map<number, string>();
  const rows: (readonly (string | null)[])[] = [];
  for (const record of recordsOf(await source.bytes(), plan, chunk.firstLine)) {
    const row = plan.source.format === 'csv' ? csvRow(record.bytes, plan, used) : jsonRow(record.bytes);
    if (typeof row === 'string') faults.set(rows.length, row);
    rows.push(typeof row === 'string' ? names.map(() => null) : row);
    if (rows.length % rowsBetweenBreaths === 0) {
      await breathe();
      signal?.throwIfAborted();
    }
  }
  await createTextTable(connection, '__careful', names, names.map((_name, column) => rows.map((row) => row[column] ?? null)));
  if (plan.source.format === 'ndjson') await refuseNoObjects(connection, faults);
  return {
    faults,
    valueOf: (position, column) => {
      const row = rows[position] ?? [];
      return plan.source.format === 'csv' ? row[used.findIndex(({ index }) => index === column.index)] : memberOf(row[0], column.path);
    },
  };
}

/** The used fields, or what is wrong with the record. Delimiters at its end make no fields, as in DuckDB's reader. */
function csvRow(record: Uint8Array, plan: Plan, used: readonly ColumnRef[]): readonly (string | null)[] | string {
  const parsed = fieldsOf(record, dialectOf(plan.source));
  if ('fault' in parsed) return parsed.fault;
  const { fields } = parsed;
  const expected = plan.source.columns.length;
  if (fields.length < expected || fields.slice(expected).some(({ length }) => length > 0)) return `expected ${expected} fields, got ${fields.length}`;
  const row: (string | null)[] = [];
  for (const { index = 0, name } of used) {
    const field = fields[index] as Uint8Array;
    if (!isUtf8(field)) return `column "${name}" is not UTF-8`;
    row.push(field.length === 0 ? null : Buffer.from(field).toString());
  }
  return row;
}

function jsonRow(record: Uint8Array): readonly (string | null)[] | string {
  return isUtf8(record) ? [Buffer.from(record).toString()] : 'the line is not UTF-8';
}

/** DuckDB says what is JSON, as in a whole block: with JavaScript's parser it agrees on neither lone surrogates nor the last comma. */
async function refuseNoObjects(connection: DuckDBConnection, faults: Map<number, string>): Promise<void> {
  const isNone = "CASE WHEN json_valid(j) THEN json_type(j) <> 'OBJECT' ELSE j IS NOT NULL END";
  for (const [position, isJson] of await rowsOfQuery(connection, `SELECT rowid, json_valid(j) FROM __careful WHERE ${isNone}`)) {
    faults.set(Number(position), isJson === true ? 'the line is not a JSON object' : 'the line is not JSON');
  }
  await connection.run(`UPDATE __careful SET j = NULL WHERE ${isNone}`);
}

/** For what is told of it: NaN and the infinities are no JSON, but some writers' JSON. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    try {
      return JSON.parse(text.replaceAll(/(?<=[[:,]\s*)-?(?:NaN|Infinity)(?=\s*[\],}])/g, 'null')) as unknown;
    } catch {
      return undefined;
    }
  }
}

function memberOf(text: string | null | undefined, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, step) => (isObject(value) ? value[step] : undefined), parsed(text ?? ''));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
