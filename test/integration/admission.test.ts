// The queue is bounded: by rows of a pool and of a tenant, by Redis' memory, and by what a deadline leaves time for.
import { type Lane, newBundleId } from '@millrace/protocol';
import { Admission, connect, Producer, Settler } from '@millrace/queue';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { findRedisServer } from '../../apps/cli/bin/redis-server.mjs';
import { type RunningRedis, startRedis } from '../../apps/cli/src/embedded/redis.ts';
import { type Answer, endOf, predict, send, startTestSystem, startWorker, type TestSystem, until } from './rig.ts';

let redisServer: RunningRedis;
beforeAll(async () => { redisServer = await startRedis({ binary: findRedisServer() ?? '' }); });
afterAll(() => redisServer.stop());

const onError = (error: unknown) => { throw error; };
const model = { name: 'iris', version: 1, digest: '' };

/** A pool of its own, and what API and worker do to it. */
async function poolOf(pool: string, limits = { maxQueuedRows: 1000, maxQueuedRowsPerTenant: 600 }) {
  const redis = connect({ redisUrl: redisServer.url }, 'producer', onError);
  await until(() => redis.status === 'ready', 'Redis');
  onTestFinished(() => redis.disconnect());
  const producer = new Producer(redis, 600);
  const settler = new Settler(redis, pool, 600);
  const add = async (tenant: string, rows: number, lane: Lane = 'online') => {
    const bundleId = newBundleId(pool);
    await producer.add(pool, bundleId, { format: 1, tenant, model, lane, priority: 3, predictions: [{ inputs: {}, rows, acceptedAt: Date.now() }] }, []);
    return { bundleId, tenant, lane };
  };
  const settle = (bundle: { bundleId: string; tenant: string; lane: Lane }, rows: number) =>
    settler.settle(bundle, [{ index: 0, record: { outcome: 'succeeded', model: 'iris', version: 1, rows, acceptedAt: 0, settledAt: 0 } }]);
  const admission = async () => {
    const it = new Admission({ redis, pools: () => [pool], limits, onError });
    await it.start();
    onTestFinished(() => it.stop());
    return it;
  };
  const ask = { pool, lane: 'online' as const, tenant: 'a', rows: 1, bytes: 100 };
  return { redis, add, settle, admission, ask };
}

const refused = (code: string, retryAfterSeconds: number) => expect.objectContaining({ code, retryAfterSeconds }) as Error;

test('an add that Redis refuses for its memory says so', async () => {
  const { redis, add } = await poolOf('oom');
  onTestFinished(async () => { await redis.config('SET', 'maxmemory', 0); });
  await redis.config('SET', 'maxmemory', 1);
  await expect(add('a', 3)).rejects.toMatchObject({ code: 'queue-memory', retryAfterSeconds: 30 });
  await redis.config('SET', 'maxmemory', 0);
  expect(await redis.keys('millrace:{oom}:*')).toEqual([]);
});

test('a pool, and a tenant in it, takes rows up to its limit; what was let in here counts at once', async () => {
  const { add, admission, ask } = await poolOf('full');
  await add('a', 500);
  const gate = await admission();
  gate.admit({ ...ask, rows: 100 });
  expect(() => gate.admit(ask)).toThrowError(refused('tenant-queue-full', 30));
  gate.admit({ ...ask, tenant: 'b', rows: 400 });
  expect(() => gate.admit({ ...ask, tenant: 'c' })).toThrowError(refused('queue-full', 30));
  gate.admit({ ...ask, tenant: 'c', lane: 'bulk' });
});

test('one prediction larger than the limit is taken while nothing else waits', async () => {
  const { admission, ask } = await poolOf('large');
  const gate = await admission();
  gate.admit({ ...ask, rows: 5000 });
  expect(() => gate.admit(ask)).toThrowError(refused('queue-full', 30));
});

test('Retry-After and deadlines go by the pace of the workers', async () => {
  const { add, settle, admission, ask } = await poolOf('paced', { maxQueuedRows: 4000, maxQueuedRowsPerTenant: 4000 });
  const bundles = [];
  for (let count = 0; count < 100; count++) bundles.push(await add('a', 40));
  const gate = await admission();
  expect(() => gate.admit({ ...ask, deadlineMs: 1 })).toThrowError(refused('queue-full', 30));
  for (const bundle of bundles.splice(0, 20)) await settle(bundle, 40);
  const ahead = 3200;
  const rate = await until(() => {
    const load = gate.pools.get('paced');
    return load?.demand.lanes.online.rows === ahead && load.drain.rowsPerSecond;
  }, 'a drain rate');
  const waitMs = 1000 * ahead / rate;
  expect(() => gate.admit({ ...ask, deadlineMs: Math.floor(waitMs / 2) })).toThrowError(expect.objectContaining({ code: 'deadline-unmeetable' }) as Error);
  gate.admit({ ...ask, deadlineMs: Math.ceil(waitMs * 4) });
  gate.admit(ask);
});

const large = { model: 'digits', inputs: Array.from({ length: 1000 }, () => Array.from({ length: 64 }, (_, index) => index % 17)) };

/** Queues large predictions until it is refused. */
async function fill(system: TestSystem): Promise<{ accepted: string[]; refusal: Answer }> {
  const accepted: string[] = [];
  for (;;) {
    const answer = await send(system, 'POST', '/api/v1/predictions', large);
    if (answer.status !== 202) return { accepted, refusal: answer };
    accepted.push(answer.body.id);
  }
}

test('near its memory limit Redis is given nothing more to queue, never refuses by itself, and results find room', async () => {
  const system = await startTestSystem({ privateRedis: true, workers: 0, env: { MILLRACE_RETENTION_SECONDS: '600' } });
  onTestFinished(() => system.stop());
  const redis = new Redis(system.redisAdminUrl as string);
  onTestFinished(() => redis.disconnect());
  const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1]);
  await redis.config('SET', 'maxmemory', await used() + 30 * 2 ** 20);

  const { accepted, refusal } = await fill(system);
  expect([refusal.status, refusal.body.type]).toEqual([503, '/problems/queue-memory']);
  expect(Number(refusal.headers.get('retry-after'))).toBe(30);
  expect(await redis.info('errorstats')).not.toContain('OOM');
  const batch = await send(system, 'POST', '/api/v1/predictions:batch', { requests: [large] });
  expect([batch.body.rejected, batch.headers.get('retry-after')]).toEqual([1, '30']);

  await startWorker(system);
  for (const id of accepted) expect((await endOf(system, id)).status).toBe('succeeded');
  await until(async () => (await predict(system, 'digits', large.inputs)).status === 200, 'predictions are taken again');
  expect(await redis.info('errorstats')).not.toContain('OOM');
});

test('where Redis is full all the same, the problem says so, and what was accepted is done once there is room', async () => {
  const system = await startTestSystem({ privateRedis: true, workers: 0 });
  onTestFinished(() => system.stop());
  const redis = new Redis(system.redisAdminUrl as string);
  onTestFinished(() => redis.disconnect());
  const body = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
  const { body: { id } } = await send(system, 'POST', '/api/v1/predictions', body);
  await redis.config('SET', 'maxmemory', 1);
  const answer = await send(system, 'POST', '/api/v1/predictions', body);
  expect([answer.status, answer.body.type]).toEqual([503, '/problems/queue-memory']);
  await startWorker(system);
  await redis.config('SET', 'maxmemory', 0);
  expect((await endOf(system, id)).status).toBe('succeeded');
});

test('a deadline that the backlog cannot meet is refused at once over HTTP, and one that it can meet is not', async () => {
  const system = await startTestSystem();
  onTestFinished(() => system.stop());
  /** About 5 ms of one core. */
  const heavy = { model: 'digits-deep', inputs: large.inputs.slice(0, 8) };
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: 1000 }, () => heavy) });
  expect(body.accepted).toBe(1000);
  await until(async () => /millrace_queue_drain_rows_per_second\{/.test((await send(system, 'GET', '/metrics')).body as string), 'a drain rate');
  const refusal = await send(system, 'POST', '/api/v1/predictions', { ...heavy, deadline_ms: 600 });
  expect([refusal.status, refusal.body.type]).toEqual([503, '/problems/deadline-unmeetable']);
  expect(Number(refusal.headers.get('retry-after'))).toBeGreaterThan(0);
  expect((await send(system, 'POST', '/api/v1/predictions', { ...heavy, deadline_ms: 3_600_000 })).status).toBe(202);
});

test('settings bound what a pool takes over HTTP', async () => {
  const system = await startTestSystem({ workers: 0, env: { MILLRACE_MAX_QUEUED_ROWS: '100', MILLRACE_MAX_QUEUED_ROWS_PER_TENANT: '60' } });
  onTestFinished(() => system.stop());
  const requests = Array.from({ length: 100 }, () => ({ model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] }));
  const { body, headers } = await send(system, 'POST', '/api/v1/predictions:batch', { requests });
  expect([body.accepted, body.rejected, body.results.at(-1).error.type, headers.get('retry-after')]).toEqual([60, 40, '/problems/tenant-queue-full', '30']);
  const refusal = await send(system, 'POST', '/api/v1/predictions', requests[0]);
  expect([refusal.status, refusal.body.type, refusal.headers.get('retry-after')]).toEqual([429, '/problems/tenant-queue-full', '30']);
  const depth = /millrace_queue_depth\{queue="default\/online",service="api"\} 60/;
  const metrics = await until(async () => {
    const text = (await send(system, 'GET', '/metrics')).body as string;
    return depth.test(text) && text;
  }, 'the depth is read');
  expect(metrics).toMatch(/millrace_queue_limit_rows\{of="tenant",service="api"\} 60/);
});
