// The simulator: it keeps its accounts, and rivals decide as their sources do.
import { expect, test } from 'vitest';
import { policyScaler } from './policy-scaler.ts';
import { fixedFleet, hpaOnCpu, kedaOnListLength } from './rivals.ts';
import { type PoolShape, simulate, type View } from './simulator.ts';
import { noisy, onlineTraffic, onOff, withBackfill } from './traffic.ts';

/** Numerical Recipes' linear congruential generator. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
}

const pool: PoolShape = { threadsPerReplica: 2, maxRows: 8, batchSeconds: 0.02, claimRows: 10, startSeconds: 5, replicas: 3, maxReplicas: 40, targetSeconds: 5 };
const minute = (rowsPerSecond: number) => onlineTraffic({ seconds: 60, rate: () => rowsPerSecond, peak: rowsPerSecond, workSeconds: 0.1, workVariation: 0 }, seeded(1));

const quiet: View = { now: 0, listed: { online: 0, bulk: 0 }, rows: { online: 0, bulk: 0 }, oldestSeconds: { online: 0, bulk: 0 }, arrived: { online: 0, bulk: 0 }, served: 0, busySeconds: 0, ready: 1, starting: 0 };

test('a fleet that is large enough misses nothing, and costs what it is', () => {
  expect(simulate(minute(40), pool, fixedFleet(3), 0)).toMatchObject({ missed: 0, replicaSeconds: 180, scaleEvents: 0, mostReplicas: 3, bulkSeconds: 0 });
});

test('a fleet of half the size that is needed falls behind by half of what arrives', () => {
  const { rows, missed } = simulate(minute(120), pool, fixedFleet(3), 0);
  // 60 rows/s are served and the queue grows as fast: it holds 5 s of work after 10 s, and rows of the last seconds are not late yet.
  expect(missed / rows).toBeGreaterThan(0.7);
  expect(missed / rows).toBeLessThan(0.85);
});

test('a replica is paid from its order and works from its start', () => {
  const outcome = simulate(minute(40), { ...pool, replicas: 0 }, fixedFleet(3), 0);
  expect(outcome).toMatchObject({ replicaSeconds: 180, scaleEvents: 1 });
  expect(simulate(minute(40), { ...pool, replicas: 0, startSeconds: 20 }, fixedFleet(3), 0).missed).toBeGreaterThan(40 * 15);
});

test('scaling in loses nothing: what was claimed is finished or handed back', () => {
  let left = 3;
  const shrinking = { everySeconds: 10, decide: () => Math.max(1, left--) };
  const outcome = simulate(minute(15), pool, shrinking, 0);
  expect(outcome).toMatchObject({ missed: 0, scaleEvents: 2 });
  expect(outcome.replicaSeconds).toBeGreaterThan(80);
  expect(outcome.replicaSeconds).toBeLessThan(95);
});

test('a replica that is taken away while it starts costs until then', () => {
  const wanted = [3, 1];
  const hasty = { everySeconds: 10, decide: () => wanted.shift() ?? 1 };
  expect(simulate(minute(1), { ...pool, replicas: 1, startSeconds: 20 }, hasty, 0)).toMatchObject({ replicaSeconds: 60 + 2 * 10, scaleEvents: 2 });
});

test('bulk rows wait for online ones, and are all served', () => {
  const traffic = withBackfill(minute(20), { at: 10, rows: 600, workSeconds: 0.1 });
  const { missed, bulkSeconds } = simulate(traffic, pool, fixedFleet(3), 0);
  expect(missed).toBe(0);
  // 60 rows/s less the 20 of the online lane.
  expect(bulkSeconds).toBeGreaterThan(600 / 60);
  expect(bulkSeconds).toBeLessThan(600 / 35);
});

test('the policy is steady under noise, and at hand after a step', () => {
  const limits = { minReplicas: 1, maxReplicas: 40, targetSeconds: 5, bulkDrainSeconds: 900, utilisation: 0.8, scaleInDelaySeconds: 300, idleSeconds: 300, staleSeconds: 30, startSeconds: 5 };
  const policy = () => policyScaler(limits, { replicas: 3, threadsPerReplica: 2, everySeconds: 1 });
  const seconds = 3600;
  const rate = noisy(() => 40, { seconds, stepSeconds: 10, variation: 0.2 }, seeded(2));
  const steady = simulate(onlineTraffic({ seconds, rate, peak: 120, workSeconds: 0.1, workVariation: 0 }, seeded(3)), pool, policy(), 0.5);
  expect(steady.scaleEvents).toBeLessThanOrEqual(2);
  expect(steady.missed).toBe(0);

  const step = onlineTraffic({ seconds: 600, rate: (second) => (second < 300 ? 10 : 200), peak: 200, workSeconds: 0.1, workVariation: 0 }, seeded(4));
  const { rows, missed, mostReplicas } = simulate(step, pool, policy(), 0.5);
  expect(missed / rows).toBeLessThan(0.02);
  expect(mostReplicas).toBeLessThanOrEqual(18);
});

test('rates are as asked for', () => {
  const traffic = onlineTraffic({ seconds: 1000, rate: (second) => (second < 500 ? 4 : 16), peak: 16, workSeconds: 0.2, workVariation: 1 }, seeded(5));
  const early = traffic.arrivesAt.filter((at) => at < 500).length;
  expect(early / 500).toBeCloseTo(4, 0);
  expect((traffic.arrivesAt.length - early) / 500).toBeCloseTo(16, 0);
  expect(traffic.workSeconds.reduce((sum, work) => sum + work, 0) / traffic.workSeconds.length).toBeCloseTo(0.2, 1);
  const on = onOff(1, { seconds: 100_000, onSeconds: 17, offSeconds: 43 }, seeded(6));
  expect(Array.from({ length: 100_000 }, (_, second) => on(second)).reduce((sum, rate) => sum + rate, 0) / 100_000).toBeCloseTo(17 / 60, 1);
});

test('an HPA on CPU: by the share that is busy, with a tolerance, at most doubled or 4 more, in after 300 s', () => {
  const hpa = hpaOnCpu({ targetShare: 0.5, threadsPerReplica: 2, minReplicas: 1 });
  let [now, busySeconds, pods] = [0, 0, 10];
  const sync = (share: number) => {
    now += 15;
    busySeconds += share * pods * 2 * 15;
    pods = hpa.decide({ ...quiet, now, busySeconds, ready: pods });
    return pods;
  };
  expect([sync(0.54), sync(0.7), sync(0.5)]).toEqual([10, 14, 14]);
  expect([sync(0.1), now]).toEqual([14, 60]);
  while (sync(0.1) === 14);
  expect(now).toBe(45 + 300);
});

test('KEDA on list length: one pod at the next poll, then an HPA; nothing in the list is no work, whatever runs', () => {
  const keda = kedaOnListLength({ listLength: 10, bulkListLength: 1000, pollingSeconds: 30, minReplicas: 0, limitsOut: true });
  let now = -5;
  let pods = 0;
  const tick = (online: number) => {
    now += 5;
    pods = keda.decide({ ...quiet, now, ready: pods, listed: { online, bulk: 0 }, rows: { online: 1000, bulk: 0 } });
    return pods;
  };
  expect(tick(0)).toBe(0);
  // Polled at 30; at the same time the HPA asks, and may add 4.
  expect([tick(100), tick(100), tick(100), tick(100), tick(100), tick(100)]).toEqual([0, 0, 0, 0, 0, 4]);
  expect([tick(100), tick(100), tick(100)]).toEqual([4, 4, 8]);
  expect([tick(84), tick(84), tick(84)]).toEqual([8, 8, 8]);
  while (tick(0) > 1);
  expect(now).toBe(60 + 300);
  while (tick(0) > 0);
  expect(now).toBeLessThanOrEqual(60 + 300 + 30);
});
