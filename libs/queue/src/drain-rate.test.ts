import { expect, test } from 'vitest';
import { DrainRate } from './drain-rate.ts';

/** Readings every half a second: how many rows there are, and how many more were settled since the last one. */
function drainedBy(steps: readonly (readonly [rows: number, settled: number])[]): DrainRate {
  const drain = new DrainRate();
  let total = 1000;
  for (const [index, [rows, settled]] of steps.entries()) drain.note({ at: 60_000 + 500 * index, rows, settled: total += settled });
  return drain;
}
const times = <Step>(count: number, step: Step): Step[] => Array.from({ length: count }, () => step);

test('is unknown until work has been seen to drain', () => {
  expect(drainedBy([[1000, 0]]).rowsPerSecond).toBeUndefined();
  expect(drainedBy(times(10, [1000, 0] as const)).rowsPerSecond).toBeUndefined();
  expect(drainedBy([[1000, 0], [900, 100]]).rowsPerSecond).toBe(200);
});

test('follows the workers, and fades what was', () => {
  const drain = drainedBy([...times(5, [5000, 100] as const), ...times(20, [5000, 300] as const)]);
  expect(drain.rowsPerSecond).toBeGreaterThan(400);
  expect(drain.rowsPerSecond).toBeLessThan(600);
});

test('where workers wait for work, the arrivals do not count as their speed', () => {
  const drain = drainedBy([[5000, 0], [5000, 500], [0, 50], [2, 5], [2, 5]]);
  expect(drain.rowsPerSecond).toBe(1000);
  expect(drain.standsStill).toBe(false);
});

test('a pool that nobody drains stands still, sinks, and starts anew', () => {
  const still = drainedBy([[5000, 0], ...times(3, [5000, 500] as const), ...times(60, [5000, 0] as const)]);
  expect(still.standsStill).toBe(true);
  expect(still.rowsPerSecond).toBeLessThan(100);
  const again = drainedBy([[5000, 0], [5000, 500], ...times(60, [5000, 0] as const), [5000, 400]]);
  expect([again.standsStill, again.rowsPerSecond]).toEqual([false, 800]);
});

test('a counter that Redis has lost is no speed', () => {
  const drain = new DrainRate();
  for (const [index, settled] of [1000, 1500, 3, 503].entries()) drain.note({ at: 500 * index, rows: 5000, settled });
  expect(drain.rowsPerSecond).toBe(1000);
});

test('when to try again: as long as the rows take, between a second and five minutes; half a minute where nothing drains', () => {
  const drain = drainedBy([[5000, 0], [5000, 500]]);
  expect([1, 2500, 1e9].map((rows) => drain.retryAfterSeconds(rows))).toEqual([1, 3, 300]);
  expect(new DrainRate().retryAfterSeconds(1)).toBe(30);
  expect(drainedBy([[5000, 0], [5000, 500], ...times(60, [5000, 0] as const)]).retryAfterSeconds(1)).toBe(30);
});
