import fc from 'fast-check';
import { expect, test } from 'vitest';
import { endsInARow, restartDelayMs } from './restart-delay.ts';

test('the delay doubles up to 30 s, and is jittered by up to a half', () => {
  expect([1, 2, 3, 4, 5, 6, 60].map((ends) => restartDelayMs(ends, 0))).toEqual([1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
  fc.assert(fc.property(fc.integer({ min: 1, max: 2000 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (ends, random) => {
    const longest = restartDelayMs(ends, 0);
    expect(restartDelayMs(ends, random)).toBeGreaterThanOrEqual(longest / 2);
    expect(restartDelayMs(ends, random)).toBeLessThanOrEqual(longest);
  }));
});

test('ends are counted in a row, until a process has been ready for a while', () => {
  expect(endsInARow(0, 0)).toBe(1);
  expect(endsInARow(4, 9_999)).toBe(5);
  expect(endsInARow(4, 10_000)).toBe(1);
});
