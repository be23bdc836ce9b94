import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { AttemptResult } from './attempt.ts';
import { defaultDelays, nextAttemptMs, readDelays, verdictOf } from './schedule.ts';

const middle = () => 0.5;

test('the schedule of the standard: ten attempts over three days', () => {
  const delaysMs = readDelays(defaultDelays);
  const waits = Array.from({ length: 10 }, (_, index) => nextAttemptMs({ delaysMs, attempts: index + 1, random: middle }));
  expect(waits.map((ms) => ms && ms / 1000)).toEqual([5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400, undefined]);
});

test('a delay is moved by a fifth at most, and Retry-After only makes it longer', () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 1e8 }), fc.option(fc.integer({ min: 0, max: 86_400_000 }), { nil: undefined }), fc.double({ min: 0, max: 1, noNaN: true }), (delayMs, retryAfterMs, chance) => {
    const wait = nextAttemptMs({ delaysMs: [delayMs], attempts: 1, retryAfterMs, random: () => chance }) ?? Number.NaN;
    expect(wait).toBeGreaterThanOrEqual(Math.max(Math.round(0.8 * delayMs), retryAfterMs ?? 0));
    expect(wait).toBeLessThanOrEqual(Math.max(Math.round(1.2 * delayMs), retryAfterMs ?? 0));
  }));
});

test('after the last attempt there is none, whatever Retry-After says', () => {
  expect(nextAttemptMs({ delaysMs: [1000], attempts: 2, retryAfterMs: 1000, random: middle })).toBeUndefined();
  expect(nextAttemptMs({ delaysMs: [], attempts: 1, random: middle })).toBeUndefined();
});

test.each([
  [200, 'delivered'], [204, 'delivered'], [299, 'delivered'],
  [301, 'retry'], [304, 'retry'], [307, 'retry'],
  [400, 'retry'], [404, 'retry'], [429, 'retry'], [410, 'gone'],
  [500, 'retry'], [503, 'retry'],
] as const)('the answer %i means: %s', (status, verdict) => {
  expect(verdictOf({ kind: 'answered', status, durationMs: 1, excerpt: '' })).toBe(verdict);
});

test.each<AttemptResult>([
  { kind: 'refused', reason: 'the port must be 443 or 8443', durationMs: 0 },
  { kind: 'failed', reason: 'the connection was refused', durationMs: 1 },
])('what is $kind is tried again', (result) => {
  expect(verdictOf(result)).toBe('retry');
});

test('the setting is read in seconds', () => {
  expect(readDelays('5,300,1800')).toEqual([5000, 300_000, 1_800_000]);
  expect(readDelays(' 0, 0.25 ,604800')).toEqual([0, 250, 604_800_000]);
});

test.each(['', '5,', '5;300', '-1', '1e3', 'five', '604801', 'Infinity'])('a schedule that cannot be used is refused with a sentence: %j', (text) => {
  expect(() => readDelays(text)).toThrow(/must be seconds from 0 to 604800, separated by commas, such as 5,300,1800; got "/);
});
