import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { AttemptResult } from './attempt.ts';
import { Breaker, hostFailed } from './breaker.ts';

/** Results of a host, one every `everyMs`: `+` is a success, `-` a failure. */
function after(results: string, { everyMs = 0, breaker = new Breaker(), from = 0 } = {}): Breaker {
  for (const [index, result] of results.split('').entries()) {
    if (result === '+') breaker.succeeded(from + index * everyMs);
    else breaker.failed(from + index * everyMs);
  }
  return breaker;
}

describe('it opens', () => {
  test('after ten failures in a row', () => {
    expect(after('-'.repeat(9)).openUntil).toBeUndefined();
    expect(after('-'.repeat(9) + '+' + '-'.repeat(9)).openUntil).toBeUndefined();
    expect(after('-'.repeat(10)).openUntil).toBe(30_000);
    expect(after('-'.repeat(10), { everyMs: 3_600_000 }).openUntil).toBe(9 * 3_600_000 + 30_000);
  });

  test('where more than half of at least 20 results within a minute are failures', () => {
    expect(after('+-'.repeat(30)).openUntil).toBeUndefined();
    expect(after('+--'.repeat(6)).openUntil).toBeUndefined();
    expect(after('+--'.repeat(7)).openUntil).toBe(30_000);
    expect(after('+--'.repeat(100), { everyMs: 4000 }).openUntil).toBeUndefined();
  });
});

describe('while it is open', () => {
  test('nothing starts before its time, then one probe does', () => {
    const breaker = after('-'.repeat(10));
    expect([0, 29_999, 30_000, 30_000, 59_999].map((now) => breaker.mayStart(now))).toEqual([false, false, true, false, false]);
  });

  test('a probe that succeeds closes it, with nothing remembered', () => {
    const breaker = after('-'.repeat(10));
    breaker.mayStart(30_000);
    breaker.succeeded(30_100);
    expect([breaker.openUntil, breaker.mayStart(30_100)]).toEqual([undefined, true]);
    expect(after('-'.repeat(9), { breaker, from: 30_200 }).openUntil).toBeUndefined();
  });

  test('each probe that fails doubles the wait, up to ten minutes', () => {
    const breaker = after('-'.repeat(10));
    const waits = Array.from({ length: 7 }, () => {
      const now = breaker.openUntil ?? Number.NaN;
      expect(breaker.mayStart(now)).toBe(true);
      breaker.failed(now);
      return (breaker.openUntil ?? Number.NaN) - now;
    });
    expect(waits).toEqual([60_000, 120_000, 240_000, 480_000, 600_000, 600_000, 600_000]);
  });

  test('what had started before it opened changes nothing', () => {
    const breaker = after('-'.repeat(10));
    after('----++', { breaker, from: 10_000 });
    expect(breaker.openUntil).toBe(30_000);
  });

  test('a probe that tells nothing makes room for another', () => {
    const breaker = after('-'.repeat(10));
    expect([30_000, 89_999, 90_000].map((now) => breaker.mayStart(now))).toEqual([true, false, true]);
  });

  test('a probe that did not call the host after all makes room for another at once', () => {
    const breaker = after('-'.repeat(10));
    expect(breaker.mayStart(30_000)).toBe(true);
    breaker.released(30_010);
    expect(breaker.mayStart(30_010)).toBe(true);
  });

  test('a closed breaker has nothing to release', () => {
    const breaker = after('+');
    breaker.released(10);
    expect(breaker.openUntil).toBeUndefined();
  });

  test('after it has closed, it opens for half a minute again', () => {
    const breaker = after('-'.repeat(10));
    breaker.mayStart(30_000);
    breaker.failed(30_000);
    breaker.mayStart(90_000);
    breaker.succeeded(90_000);
    expect(after('-'.repeat(10), { breaker, from: 90_000 }).openUntil).toBe(120_000);
  });
});

type Step = readonly [what: 'ask' | 'succeed' | 'fail', laterMs: number];
const steps = fc.array(fc.tuple(fc.constantFrom('ask' as const, 'succeed' as const, 'fail' as const, 'fail' as const), fc.constantFrom(0, 0, 0, 400, 1000, 5000, 30_000)), { maxLength: 300 });

function walk(path: readonly Step[], look: (breaker: Breaker, step: { what: Step[0]; now: number; until: number | undefined; started: boolean }) => void): void {
  const breaker = new Breaker();
  let now = 0;
  for (const [what, laterMs] of path) {
    now += laterMs;
    const until = breaker.openUntil;
    const started = what === 'ask' && breaker.mayStart(now);
    if (what === 'succeed') breaker.succeeded(now);
    if (what === 'fail') breaker.failed(now);
    look(breaker, { what, now, until, started });
  }
}

test('while it is open one attempt starts a term, never before its time, and a term is 30 s to 10 min', () => {
  fc.assert(fc.property(steps, (path) => walk(path, (breaker, { what, now, until, started }) => {
    const newTermMs = breaker.openUntil === undefined || breaker.openUntil === until ? 30_000 : breaker.openUntil - now;
    expect(newTermMs).toBeGreaterThanOrEqual(30_000);
    expect(newTermMs).toBeLessThanOrEqual(600_000);
    expect(started).toBe(what === 'ask' && (until === undefined || now >= until));
    expect(started && until !== undefined && breaker.mayStart(now)).toBe(false);
  })));
});

test('while it is closed it opens exactly as the list of all results says', () => {
  fc.assert(fc.property(steps, (path) => {
    let results: { at: number; failed: boolean }[] = [];
    walk(path, (breaker, { what, now, until }) => {
      if (until !== undefined) {
        if (breaker.openUntil === undefined) results = [{ at: now, failed: false }];
        return;
      }
      if (what === 'ask') return;
      results.push({ at: now, failed: what === 'fail' });
      const inRow = results.length - 1 - results.findLastIndex(({ failed }) => !failed);
      const recent = results.filter(({ at }) => Math.floor(at / 1000) > Math.floor(now / 1000) - 60);
      const failures = recent.filter(({ failed }) => failed).length;
      const opens = what === 'fail' && (inRow >= 10 || (recent.length >= 20 && failures > recent.length / 2));
      expect(breaker.openUntil).toBe(opens ? now + 30_000 : undefined);
      if (opens) results = [];
    });
  }));
});

test.each<[string, AttemptResult, boolean]>([
  ...[200, 301, 400, 404, 410].map((status): [string, AttemptResult, boolean] => [String(status), { kind: 'answered', status, durationMs: 1, excerpt: '' }, false]),
  ...[408, 429, 500, 503].map((status): [string, AttemptResult, boolean] => [String(status), { kind: 'answered', status, durationMs: 1, excerpt: '' }, true]),
  ['a refused target', { kind: 'refused', reason: 'the port must be 443 or 8443', durationMs: 0 }, false],
  ['a closed port', { kind: 'failed', reason: 'the connection was refused', durationMs: 1 }, true],
])('%s: whether the host has failed', (_, result, failed) => {
  expect(hostFailed(result)).toBe(failed);
});
