// Texts from this process as a temporary table of DuckDB.
import { type DuckDBConnection, DuckDBDataChunk, VARCHAR } from '@duckdb/node-api';

/** DuckDB's vectors hold no more. */
const step = 2048;

export async function createTextTable(connection: DuckDBConnection, name: string, columns: readonly string[], values: readonly (readonly (string | null)[])[]): Promise<void> {
  await connection.run(`CREATE OR REPLACE TEMP TABLE ${name} (${columns.map((column) => `${column} VARCHAR`).join(', ')})`);
  const appender = await connection.createAppender(name);
  const rows = values[0]?.length ?? 0;
  for (let from = 0; from < rows; from += step) {
    const vectors = DuckDBDataChunk.create(columns.map(() => VARCHAR), Math.min(step, rows - from));
    for (const [index, column] of values.entries()) vectors.setColumnValues(index, column.slice(from, from + step));
    appender.appendDataChunk(vectors);
  }
  appender.closeSync();
}
