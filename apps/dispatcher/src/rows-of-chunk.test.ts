import { expect, test } from 'vitest';
import { rowsOfChunk } from './rows-of-chunk.ts';

test('a chunk is some seconds of one inference thread', () => {
  expect([0, 1e-6, 0.001, 0.1, 1, 100].map((seconds) => rowsOfChunk(0, seconds))).toEqual([Infinity, 4_000_000, 4000, 40, 4, 1]);
  expect([0, 1024, 16_384].map((rows) => rowsOfChunk(rows, undefined))).toEqual([256, 256, 1024]);
});

test('a long backfill has tens of thousands of chunks, and none is more than a ten-thousandth of what is behind it', () => {
  let chunks = 0;
  for (let rows = 0; rows < 50_000_000; chunks++) rows += rowsOfChunk(rows, 0.1);
  expect(chunks).toBeLessThan(100_000);
  expect([rowsOfChunk(400_000, 0.1), rowsOfChunk(1_000_000, 0.1)]).toEqual([40, 100]);
});
