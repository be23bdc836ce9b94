// The rows of a chunk as the input has them: for taking a broken block apart, and for the error file.
import type { DuckDBConnection } from '@duckdb/node-api';
import { isBlank, RecordScanner, trimEnd } from './csv-records.ts';
import { dialectOf } from './blocks.ts';
import { rowsOfQuery } from './engine.ts';
import type { ChunkSource } from './local-inputs.ts';
import { type Chunk, isText, type Plan } from './plan.ts';
import { identifier, literal } from './sql.ts';

export interface OriginalRow {
  readonly text: string;
  /** Of its file, from 1; undefined where there are no lines. */
  readonly line: number | undefined;
}

/** The records of a chunk's text, with the line that each begins at. */
export function* recordsOf(bytes: Uint8Array, plan: Plan, firstLine: number): Generator<{ readonly bytes: Uint8Array; readonly line: number }> {
  const scanner = new RecordScanner(dialectOf(plan.source));
  let at = 0;
  while (at < bytes.length) {
    const line = firstLine + scanner.lines;
    const next = scanner.next(bytes, at);
    const end = next === -1 ? bytes.length : next;
    const record = bytes.subarray(at, end);
    if (!isBlank(record)) yield { bytes: trimEnd(record), line };
    at = end;
  }
}

export async function originalsOf(plan: Plan, chunk: Chunk, { source, positions, connection }: { readonly source: ChunkSource; readonly positions: readonly number[]; readonly connection: DuckDBConnection }): Promise<ReadonlyMap<number, OriginalRow>> {
  if (positions.length === 0) return new Map();
  return isText(chunk.data)
    ? originalTexts(await source.bytes(), plan, chunk.firstLine, new Set(positions))
    : originalObjects(connection, plan, await source.path(), { offset: chunk.data.offset, positions });
}

function originalTexts(bytes: Uint8Array, plan: Plan, firstLine: number, wanted: ReadonlySet<number>): Map<number, OriginalRow> {
  const originals = new Map<number, OriginalRow>();
  let position = 0;
  for (const record of recordsOf(bytes, plan, firstLine)) {
    if (wanted.has(position)) originals.set(position, { text: Buffer.from(record.bytes).toString(), line: record.line });
    position++;
  }
  return originals;
}

async function originalObjects(connection: DuckDBConnection, { source }: Plan, path: string, { offset, positions }: { readonly offset: number; readonly positions: readonly number[] }): Promise<Map<number, OriginalRow>> {
  const members = source.columns.map((column) => `${literal(column)}: ${identifier(column)}`);
  const rows = `read_parquet(${literal(path)}, file_row_number = true) WHERE file_row_number IN (${positions.map((position) => offset + position).join(', ')})`;
  const found = await rowsOfQuery(connection, `SELECT file_row_number, to_json({${members.join(', ')}})::VARCHAR FROM ${rows}`);
  return new Map(found.map(([number, json]) => [Number(number) - offset, { text: String(json), line: undefined }]));
}
