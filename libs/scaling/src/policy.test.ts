// The policy: what it asks for, and what it never does.
import { expect, test } from 'vitest';
import { decide, initialState, type Limits, type Reading } from './policy.ts';

const limits: Limits = { minReplicas: 0, maxReplicas: 100, targetSeconds: 5, bulkDrainSeconds: 600, utilisation: 0.8, scaleInDelaySeconds: 300, idleSeconds: 300, staleSeconds: 30, startSeconds: 5 };

function reading(change: Partial<Reading> = {}): Reading {
  return { measuredAt: 0, rows: { online: 0, bulk: 0 }, backlogSeconds: { online: 0, bulk: 0 }, onlineArrivingPerSecond: 0, oldestSeconds: { online: 0, bulk: 0 }, ready: 0, threadsPerReplica: 1, ...change };
}

test('the first row starts the first replica', () => {
  expect(decide(initialState(0, 0), reading({ rows: { online: 1, bulk: 0 } }), limits, 0)).toMatchObject({ desired: 1 });
});

test('a pool that is found empty and without replicas stays so', () => {
  expect(decide(initialState(0, 0), reading(), limits, 0)).toMatchObject({ desired: 0, reason: 'idle' });
});

test('a pool that has been empty for long enough goes to its minimum, whatever it had to do before', () => {
  const busy = decide(initialState(1, 0), reading({ rows: { online: 100, bulk: 0 }, backlogSeconds: { online: 500, bulk: 0 }, ready: 1 }), limits, 0);
  expect(busy.desired).toBeGreaterThan(10);
  for (const minReplicas of [0, 2]) {
    const empty = (seconds: number) => decide(busy.state, reading({ measuredAt: 1000 * seconds, ready: busy.desired }), { ...limits, minReplicas }, 1000 * seconds).desired;
    expect([empty(299), empty(300)]).toEqual([busy.desired, minReplicas]);
  }
});

test('arrivals are given threads with headroom', () => {
  expect(decide(initialState(1, 0), reading({ rows: { online: 1, bulk: 0 }, onlineArrivingPerSecond: 8, ready: 1 }), limits, 0)).toMatchObject({ desired: 10 });
});

test('nothing changes without a reading', () => {
  expect(decide(initialState(7, 0), undefined, limits, 1e9)).toMatchObject({ desired: 7, reason: 'no-metrics' });
});
