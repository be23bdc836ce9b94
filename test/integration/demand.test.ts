// What a pool is asked for, as Redis counts it: by lane, model version and tenant; exact at rest, whatever happened.
import { newBundleId, type Lane, versionName } from '@millrace/protocol';
import { Chunks, connect, Marks, Presence, Producer, publishDecision, readDemand, Settler, Work } from '@millrace/queue';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { findRedisServer } from '../../apps/cli/bin/redis-server.mjs';
import { type RunningRedis, startRedis } from '../../apps/cli/src/embedded/redis.ts';
import { until } from './rig.ts';

let redisServer: RunningRedis;
beforeAll(async () => { redisServer = await startRedis({ binary: findRedisServer() ?? '' }); });
afterAll(() => redisServer.stop());

const model = (name: string) => ({ name, version: 1, digest: '' });

/** A pool of its own, and what API and worker do to it. */
async function poolOf(pool: string) {
  const redis = connect({ redisUrl: redisServer.url }, 'producer', (error) => { throw error; });
  await until(() => redis.status === 'ready', 'Redis');
  onTestFinished(() => redis.disconnect());
  const producer = new Producer(redis, 600);
  const settler = new Settler(redis, pool, 600);
  const add = async (tenant: string, rows: number[], { lane = 'online', name = 'iris' }: { lane?: Lane; name?: string } = {}) => {
    const bundleId = newBundleId(pool);
    await producer.add(pool, bundleId, { format: 1, tenant, model: model(name), lane, priority: 3, predictions: rows.map((each) => ({ inputs: {}, rows: each, acceptedAt: Date.now() })) }, []);
    return { bundleId, tenant };
  };
  const settle = (bundle: { bundleId: string; tenant: string }, index: number, rows: number, work = new Work()) =>
    settler.settle(bundle, [{ index, record: { outcome: 'succeeded', model: 'iris', version: 1, rows, acceptedAt: 0, settledAt: 0 } }], { work });
  const key = (name: string) => `millrace:{${pool}}:${name}`;
  /** What a producer books that dies before it adds. */
  const bookOnly = async (tenant: string, rows: number) => {
    const bundleId = newBundleId(pool);
    await redis.millraceAdmit(key('depth'), key('bookings'), key('work'), key(`index:${tenant}`), bundleId, 'online', versionName(model('iris')), tenant, rows, pool, 600);
    return bundleId;
  };
  /** As if the time had passed in which an add may be under way. */
  const age = async (bundleId: string) => {
    const [rows, path, since] = (await redis.hget(key('bookings'), bundleId) as string).split(' ');
    await redis.hset(key('bookings'), bundleId, `${rows} ${path} ${Number(since) - 15_000}`);
  };
  return { redis, add, settle, key, bookOnly, age, demand: () => readDemand(redis, pool) };
}

test('rows are counted by lane, model version and tenant, and what was done is counted for ever', async () => {
  const { add, settle, demand } = await poolOf('counted');
  const first = await add('a', [3, 2]);
  await add('a', [4], { name: 'digits' });
  await add('b', [5], { lane: 'bulk' });
  expect(await demand()).toMatchObject({
    lanes: {
      online: { rows: 9, running: 0, tenants: new Map([['a', 9]]), models: new Map([['iris@1', { waiting: 5, running: 0 }], ['digits@1', { waiting: 4, running: 0 }]]) },
      bulk: { rows: 5, tenants: new Map([['b', 5]]), models: new Map([['iris@1', { waiting: 5, running: 0 }]]) },
    },
    settledRows: 0,
  });
  await settle(first, 0, 3);
  await settle(first, 0, 3);
  const { lanes: { online }, settledRows, models } = await demand();
  expect([online.rows, online.models.get('iris@1'), settledRows]).toEqual([6, { waiting: 2, running: 0 }, 3]);
  expect(online.oldestSeconds).toBeGreaterThan(0);
  expect(models.get('iris@1')?.arrivedRows).toEqual({ online: 5, bulk: 5 });
});

test('the oldest bundle is found among those with a priority too', async () => {
  const { redis, add, key, demand } = await poolOf('aged');
  await add('a', [1]);
  await redis.hset(key('online:old'), 'timestamp', Date.now() - 90_000);
  await redis.zadd(key('online:prioritized'), 2 * 2 ** 32, 'young', 5 * 2 ** 32 + 7, 'old', 5 * 2 ** 32 + 8, 'younger');
  expect((await demand()).lanes.online.oldestSeconds).toBeGreaterThanOrEqual(90);
});

test('what Redis refuses with an error is not counted', async () => {
  const { redis, add, key } = await poolOf('unbooked');
  await redis.set(key('online:prioritized'), 'not a sorted set');
  await expect(add('a', [3])).rejects.toMatchObject({ code: 'queue-unavailable' });
  await until(async () => await redis.exists(key('depth'), key('bookings')) === 0, 'it is taken back');
  expect(await redis.zcard(key('index:a'))).toBe(0);
});

test('what was booked and never came to the queue is taken back once no add can be under way, and nothing else is', async () => {
  const { redis, add, bookOnly, age, demand, key } = await poolOf('lost');
  const [kept, lost] = [await add('a', [2]), await bookOnly('a', 7)];
  for (const _ of [1, 2]) expect((await demand()).lanes.online.rows).toBe(9);
  await age(lost);
  expect((await demand()).lanes.online).toMatchObject({ rows: 2, tenants: new Map([['a', 2]]), models: new Map([['iris@1', { waiting: 2, running: 0 }]]) });
  expect(await redis.hkeys(key('bookings'))).toEqual([kept.bundleId]);
});

test('what is settled again after its result expired is taken out once', async () => {
  const { redis, add, settle, key, demand } = await poolOf('again');
  const bundle = await add('a', [3, 2]);
  await settle(bundle, 0, 3);
  await redis.del(key(`results:${bundle.bundleId}`));
  await settle(bundle, 0, 3);
  await settle(bundle, 1, 2);
  expect([(await demand()).lanes.online.rows, await redis.exists(key('depth'), key('bookings'))]).toEqual([0, 0]);
});

test('a prediction that is tried again counts as long as its new job is there', async () => {
  const { redis, add, age, key, demand } = await poolOf('retried');
  const { bundleId, tenant } = await add('a', [4]);
  const marks = new Marks(redis, { pool: 'retried', replica: 'one', retentionSeconds: 600 });
  onTestFinished(() => marks.close());
  const [prediction, claimed] = [{ inputs: {}, rows: 4, acceptedAt: Date.now() }, { jobId: bundleId, claimedAt: Date.now(), lost: new AbortController().signal }];
  const bundle = { format: 1, tenant, model: model('iris'), lane: 'online', priority: 3, predictions: [prediction] } as const;
  await marks.retry({ ...claimed, bundleId, bundle, predictions: new Map([[0, prediction]]), attempt: 1, claimedBefore: false, orphaned: false }, 0, prediction, 60_000);
  await redis.del(key(`online:${bundleId}`));
  expect((await demand()).lanes.online.rows).toBe(4);
  await redis.del(key(`online:${bundleId}-0-retry2`));
  await demand();
  await age(bundleId);
  expect((await demand()).lanes.online.rows).toBe(0);
});

test('a chunk whose job was lost is taken back, and counts again when it is queued again', async () => {
  const { redis, age, key, demand } = await poolOf('chunks');
  const chunks = new Chunks(redis, 'chunks');
  onTestFinished(() => chunks.close());
  const chunk = { backfillId: 'bf_1', chunk: { index: 0, firstRow: 1, rows: 10, file: 0, firstLine: 1, data: { offset: 0 } }, round: 0, attempt: 1 };
  const job = { tenant: 'a', model: model('iris'), priority: 3, lastAttempt: false, chunk };
  await chunks.add(job);
  const [jobId] = await redis.hkeys(key('bookings')) as [string];
  await redis.del(key(`bulk:${jobId}`));
  await demand();
  await age(jobId);
  expect((await demand()).lanes.bulk.rows).toBe(0);
  await chunks.add(job);
  expect((await demand()).lanes.bulk).toMatchObject({ rows: 10, models: new Map([['iris@1', { waiting: 10, running: 0 }]]) });
  const work = new Work();
  work.ran(10, { busyMs: 500, batchRows: 10 }, 16);
  await chunks.settle(chunk, { ok: true, done: 10, failed: 0 }, work);
  const { lanes: { bulk }, settledRows, models } = await demand();
  expect([bulk.rows, settledRows, models.get('iris@1')?.ran]).toEqual([0, 10, { full: { rows: 10, seconds: 0.5 }, partial: { rows: 0, seconds: 0 } }]);
});

test('what backfills have still to queue counts until it is taken back, or nobody says it any more', async () => {
  const { redis, key, demand } = await poolOf('coming');
  const chunks = new Chunks(redis, 'coming');
  onTestFinished(() => chunks.close());
  await chunks.tellToCome('bf_1', model('iris'), 1000);
  await redis.hset(key('to-come'), 'bf_1', (await redis.hget(key('to-come'), 'bf_1') as string).replace(/^\d+/, (since) => String(Number(since) - 5000)));
  await chunks.tellToCome('bf_1', model('iris'), 900);
  await chunks.tellToCome('bf_2', model('iris'), 30);
  await chunks.tellToCome('bf_3', model('digits'), 7);
  const { toCome, lanes: { bulk } } = await demand();
  expect([toCome.rows, toCome.models, bulk.rows]).toEqual([937, new Map([['iris@1', 930], ['digits@1', 7]]), 0]);
  // 900 of them since 5 s, the others since now.
  expect(toCome.ageSeconds).toBeGreaterThanOrEqual(5 * 900 / 937);
  await chunks.tellToCome('bf_1', model('iris'), 0);
  // Its coordinator died more than a minute ago.
  await redis.hset(key('to-come'), 'bf_2', (await redis.hget(key('to-come'), 'bf_2') as string).replace(/ \d+/, (noted) => ` ${Number(noted) - 61_000}`));
  expect((await demand()).toCome.models).toEqual(new Map([['digits@1', 7]]));
  expect(await redis.hkeys(key('to-come'))).toEqual(['bf_3']);
});

test('a replica is there while it is heard of, in the state that it said last', async () => {
  const { redis, key, demand } = await poolOf('served');
  const presence = new Presence(redis, { pool: 'served', replica: 'one', threads: 2 });
  presence.start();
  onTestFinished(() => presence.stop());
  await redis.hset(key('replicas'), 'killed', `ready 1 ${Date.now() - 6000}`);
  expect((await demand()).replicas).toEqual([{ id: 'one', state: 'starting', threads: 2 }]);
  presence.become('ready');
  expect((await demand()).replicas).toEqual([{ id: 'one', state: 'ready', threads: 2 }]);
  await presence.stop();
  expect([(await demand()).replicas, await redis.exists(key('replicas'))]).toEqual([[], 0]);
});

test('a decision is there until it does not hold any more', async () => {
  const { redis, demand, key } = await poolOf('decided');
  expect((await demand()).decision).toBeUndefined();
  const decision = { desiredWorkers: 3, reason: 'backlog', decidedAt: Date.now() };
  await publishDecision(redis, 'decided', decision, 30);
  expect((await demand()).decision).toEqual(decision);
  expect([29, 30]).toContain(await redis.ttl(key('decision')));
});
