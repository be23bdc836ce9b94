import { expect, test } from 'vitest';
import { readRetryAfter } from './retry-after.ts';

const now = Date.parse('2026-01-01T00:00:00Z');

test.each([
  ['0', 0],
  ['120', 120_000],
  ['99999999999999999999', 86_400_000],
  ['Thu, 01 Jan 2026 00:01:00 GMT', 60_000],
  ['Thursday, 01-Jan-26 00:01:00 GMT', 60_000],
  ['Thu, 01 Jan 2015 00:00:00 GMT', 0],
  ['Thu, 01 Jan 2099 00:00:00 GMT', 86_400_000],
  ['soon', undefined],
  ['-1', undefined],
  ['1.5', undefined],
  ['soon GMT', undefined],
  ['', undefined],
])('Retry-After: %s', (header, ms) => {
  expect(readRetryAfter(header, now)).toBe(ms);
});
