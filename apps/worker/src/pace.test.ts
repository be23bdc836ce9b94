import type { ModelVersion } from '@millrace/models';
import { expect, test } from 'vitest';
import { Pace } from './pace.ts';

/** Rows of each of 200 micro-batches beside online predictions, where one of so many rows takes so long. */
function rowsOf(maxRows: number, msOf: (rows: number) => number): number[] {
  const pace = new Pace();
  const version = {} as ModelVersion;
  return Array.from({ length: 200 }, () => {
    const rows = pace.rowsBesideOnline(version, maxRows);
    pace.ran(version, { rows, ms: msOf(rows), maxRows });
    return rows;
  });
}

test('a model that takes its time for each row runs few at once', () => {
  const [first, ...others] = rowsOf(32, (rows) => 0.6 * rows);
  expect([first, new Set(others)]).toEqual([32, new Set([5])]);
});

test('small ones that cost half as much again a row are worth it where they are soon over', () => {
  const [first, ...others] = rowsOf(32, (rows) => 0.84 * rows + (rows < 32 ? 0.5 * rows : 0));
  expect([first, new Set(others)]).toEqual([32, new Set([3])]);
});

test('a model that is fast for each row runs full micro-batches', () => {
  expect(new Set(rowsOf(1024, (rows) => 0.002 * rows))).toEqual(new Set([1024]));
});

test('a model that takes its time whatever its rows runs full ones, and small ones now and then', () => {
  const rows = rowsOf(64, () => 20);
  const small = rows.filter((count) => count < 64);
  expect(small.length).toBeGreaterThan(1);
  expect(small.length).toBeLessThan(10);
});

test('a row that takes longer than anybody should wait runs by itself', () => {
  expect(rowsOf(8, (rows) => 50 * rows).at(-1)).toBe(1);
});

test('one slow run does not end it', () => {
  let run = 0;
  const rows = rowsOf(32, (count) => (run++ === 50 ? 100 : 0.6 * count));
  expect(rows.slice(-50).every((count) => count < 32)).toBe(true);
});
