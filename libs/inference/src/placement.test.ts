import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { choose } from './placement.ts';
import type { ThreadLoad } from './placement.ts';

const thread = (inFlight: number, hasSession: boolean, sessions = Number(hasSession)): ThreadLoad => (
  { inFlight, hasSession, sessions, alive: true }
);

describe('choose', () => {
  test('prefers an idle thread that has the session', () => {
    expect(choose([thread(0, false), thread(0, true)], 2)).toEqual({ thread: 1, idle: true, prefetch: false });
  });

  test('loads on an idle thread before it lets a batch wait', () => {
    expect(choose([thread(1, true), thread(0, false)], 2)).toEqual({ thread: 1, idle: true, prefetch: false });
  });

  test('loads where the fewest sessions are', () => {
    expect(choose([thread(0, false, 2), thread(0, false, 1)], 1)?.thread).toBe(1);
  });

  test('keeps to the threads that have a session when there are enough of them', () => {
    expect(choose([thread(1, true), thread(0, false)], 1)).toEqual({ thread: 0, idle: false, prefetch: true });
    expect(choose([thread(2, true), thread(0, false)], 1)).toEqual({ thread: 0, idle: false, prefetch: false });
  });

  test('waits rather with a session than without', () => {
    expect(choose([thread(1, false), thread(1, true)], 2)?.thread).toBe(1);
  });

  test('a dead thread gets nothing, and its session does not count', () => {
    expect(choose([{ ...thread(0, true), alive: false }, thread(1, false)], 1)?.thread).toBe(1);
    expect(choose([{ ...thread(0, true), alive: false }], 1)).toBeUndefined();
  });

  test('never more sessions than instances, and nobody idle is passed over', () => {
    const threads = fc.array(fc.record({ inFlight: fc.nat(3), hasSession: fc.boolean(), sessions: fc.nat(5), alive: fc.constant(true) }), { minLength: 1 });
    fc.assert(fc.property(threads, fc.integer({ min: 1, max: 4 }), (all, instances) => {
      const having = all.filter(({ hasSession }) => hasSession).length;
      const choice = choose(all, instances);
      const chosen = all[choice?.thread ?? -1];
      expect(chosen?.hasSession || having < instances).toBe(true);
      const eligible = all.filter(({ hasSession }) => hasSession || having < instances);
      expect(chosen?.inFlight).toBe(Math.min(...eligible.map(({ inFlight }) => inFlight)));
    }));
  });
});
