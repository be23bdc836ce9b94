// Inputs of the backfill benchmark: real digits, repeated with noise; and what DuckDB by itself finds in an output.
import { appendFile, readFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { type DuckDBConnection, DuckDBInstance } from '@duckdb/node-api';

const digits = fileURLToPath(new URL('../../deploy/data/digits-test.csv', import.meta.url));
export const columns = Array.from({ length: 64 }, (_, pixel) => `p${pixel}`);
const probabilities = Array.from({ length: 10 }, (_, digit) => `probabilities_${digit}`);

async function use<Value>(work: (connection: DuckDBConnection) => Promise<Value>): Promise<Value> {
  const instance = await DuckDBInstance.create();
  const connection = await instance.connect();
  try {
    return await work(connection);
  } finally {
    connection.closeSync();
    instance.closeSync();
  }
}

/** So many rows have noise of their own, and come again and again. */
const differentRows = 20_000;

/** Writes so many rows of 64 columns into a file of the folder; its path. */
export async function writeDigits(folder: string, rows: number, format: 'csv' | 'parquet'): Promise<string> {
  const file = path.join(folder, `digits-${rows}.${format}`);
  const noisy = columns.map((name) => `round(${name} + random() - 0.5, 2)::FLOAT AS ${name}`);
  await use(async (connection) => {
    await connection.run(`CREATE TABLE digits AS SELECT row_number() OVER () AS place, * EXCLUDE label FROM read_csv('${digits}')`);
    await connection.run(`CREATE TABLE noisy AS SELECT ${noisy.join(', ')} FROM range(${Math.min(rows, differentRows)}) JOIN digits ON place = 1 + range % (SELECT count(*) FROM digits)`);
    if (format === 'csv') await connection.run(`COPY noisy TO '${file}'`);
    else await connection.run(`COPY (SELECT noisy.* FROM range(${Math.ceil(rows / differentRows)}), noisy LIMIT ${rows}) TO '${file}'`);
  });
  if (format === 'csv') await repeatLines(file, rows - differentRows);
  return file;
}

/** So many lines more, from behind the header on again and again. */
async function repeatLines(file: string, rows: number): Promise<void> {
  const text = await readFile(file);
  const lines = text.subarray(text.indexOf('\n') + 1);
  for (let left = rows; left > 0; left -= differentRows) await appendFile(file, left >= differentRows ? lines : lines.subarray(0, endOfLine(lines, left)));
}

function endOfLine(lines: Buffer, count: number): number {
  let end = 0;
  for (let line = 0; line < count; line++) end = lines.indexOf('\n', end) + 1;
  return end;
}

export interface OutputCheck {
  readonly lost: number;
  /** Rows too many, and rows that do not stand in their place. */
  readonly doubled: number;
}

/** Whether the file has one output for each row of the input, in order. */
export async function checkOutput(file: string, rows: number): Promise<OutputCheck> {
  const [counts = []] = await use(async (connection) => (await connection.runAndReadAll(
    `SELECT count(*), count(DISTINCT row) FILTER (row BETWEEN 1 AND ${rows}), count(*) FILTER (row != place) FROM (SELECT row, row_number() OVER () AS place FROM '${file}')`,
  )).getRows());
  const [all, different, misplaced] = counts.map(Number) as [number, number, number];
  return { lost: rows - different, doubled: all - different + misplaced };
}

/** The largest difference between the probabilities of two CSV files. */
export async function largestDifference(one: string, other: string): Promise<number> {
  const differences = probabilities.map((name) => `abs(a.${name} - b.${name})`).join(', ');
  const [[largest] = []] = await use(async (connection) => (await connection.runAndReadAll(`SELECT max(greatest(${differences})) FROM '${one}' a JOIN '${other}' b USING (row)`)).getRows());
  return Number(largest);
}
