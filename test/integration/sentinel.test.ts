// Sentinel: when the master dies or hangs, API and workers go on with the one that takes its place.
import type { Prediction } from '@millrace/protocol';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startWatchedRedis, type WatchedRedis } from './redis-sentinel.ts';
import { endOf, freeze, predict, send, startTestSystem, type TestSystem } from './rig.ts';

const iris = [[5.1, 3.5, 1.4, 0.2]];
const heavy = Array.from({ length: 8 }, () => Array.from({ length: 64 }, (_, index) => index % 17));

let redis: WatchedRedis;
let system: TestSystem;
beforeAll(async () => {
  redis = await startWatchedRedis();
  system = await startTestSystem({ redisUrl: redis.url });
});
afterAll(async () => {
  await system.stop();
  await redis.stop();
});

async function enqueue(count: number): Promise<string[]> {
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: count }, () => ({ model: 'digits-deep', inputs: heavy })) });
  expect(body).toMatchObject({ accepted: count });
  return body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id);
}

/** How all have ended. */
async function endsOf(ids: readonly string[]): Promise<string[]> {
  const ends: string[] = [];
  for (const id of ids) ends.push((await endOf(system, id)).status);
  return ends;
}

test('a killed master: what it had acknowledged and replicated is done, and new work is taken', async () => {
  const pids = [system.api.pid, system.workers[0]?.pid];
  const master = await redis.masterPid();
  const thaw = freeze(system.workers[0]?.pid);
  const ids = await enqueue(200);
  await redis.replicated();
  process.kill(master, 'SIGKILL');
  thaw();
  await redis.failedOver(master);
  expect(new Set(await endsOf(ids))).toEqual(new Set(['succeeded']));
  expect((await predict(system, 'iris', iris)).body.status).toBe('succeeded');
  expect([system.api.pid, system.workers[0]?.pid]).toEqual(pids);
});

test('a master that hangs: nobody waits for it once another has taken its place', async () => {
  await redis.restart();
  const ids = await enqueue(100);
  const master = await redis.masterPid();
  await redis.replicated();
  freeze(master);
  await redis.failedOver(master);
  expect(new Set(await endsOf(ids))).toEqual(new Set(['succeeded']));
  expect((await predict(system, 'iris', iris)).body.status).toBe('succeeded');
});
