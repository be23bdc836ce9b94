import { expect, test } from 'vitest';
import { RowRate } from './row-rate.ts';

test('is the mean of the last ten seconds', () => {
  const rate = new RowRate(0, 500);
  expect(rate.note(1000, 600)).toBe(100);
  expect(rate.note(10_000, 1500)).toBe(100);
  expect(rate.note(20_000, 1600)).toBe(10);
});

test('is not known before rows have come, nor when none come any more', () => {
  const rate = new RowRate(0, 0);
  expect(rate.note(0, 0)).toBeUndefined();
  expect(rate.note(1000, 10)).toBe(10);
  expect(rate.note(12_000, 10)).toBeUndefined();
});
