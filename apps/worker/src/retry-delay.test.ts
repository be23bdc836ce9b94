import { MillraceError } from '@millrace/protocol';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { retryDelayMs } from './retry-delay.ts';

const passing = new MillraceError('model-unavailable', '');
const failed = { error: passing, attempt: 1, prediction: {}, now: 0, random: 0 };

test('the delay doubles and is jittered by up to a half', () => {
  expect([1, 2].map((attempt) => retryDelayMs({ ...failed, attempt }))).toEqual([1000, 2000]);
  fc.assert(fc.property(fc.integer({ min: 1, max: 9 }), fc.double({ min: 0, max: 0.999, noNaN: true }), (attempt, random) => {
    const longest = Math.min(60_000, 1000 * 2 ** (attempt - 1));
    const delayMs = retryDelayMs({ ...failed, attempt, random, prediction: { maxAttempts: 10 } });
    expect(delayMs).toBeGreaterThanOrEqual(longest / 2);
    expect(delayMs).toBeLessThanOrEqual(longest);
  }));
});

test('a failure that would not pass, the last attempt and one past the deadline are final', () => {
  expect(retryDelayMs({ ...failed, error: new MillraceError('model-failed', '') })).toBeUndefined();
  expect(retryDelayMs({ ...failed, error: new MillraceError('worker-crashed', '') })).toBeUndefined();
  expect(retryDelayMs({ ...failed, attempt: 3 })).toBeUndefined();
  expect(retryDelayMs({ ...failed, prediction: { maxAttempts: 1 } })).toBeUndefined();
  expect(retryDelayMs({ ...failed, prediction: { deadlineAt: 1000 } })).toBeUndefined();
  expect(retryDelayMs({ ...failed, prediction: { deadlineAt: 1001 } })).toBe(1000);
});
