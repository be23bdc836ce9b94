// Backfills and their chunks as Redis keeps them: one holder, wishes, and a depth that is exact at rest.
import { type BackfillSpec, moved, unstarted } from '@millrace/protocol';
import { type BackfillResult, BackfillStore, ChunkMarks, Chunks, connect, followFeed, LeaseLost, type NewChunk, readDemand, readFeed, type Redis, ResultsReader } from '@millrace/queue';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { startTestRedis, type TestRedis } from './redis-rig.ts';
import { until } from './until.ts';

let server: TestRedis;
let redis: Redis;
let store: BackfillStore;
beforeAll(async () => {
  server = await startTestRedis({ privately: true });
  redis = connect({ redisUrl: server.url }, 'worker', () => {});
  store = new BackfillStore(redis, 60);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

const model = { name: 'iris', version: 1, digest: 'd', pool: 'default', batched: true, signature: { inputs: [], outputs: [] }, labels: [] };
const spec: BackfillSpec = { model, data: { input: { uri: 'in.csv' }, output: { uri: 'out.csv' } }, maxAttempts: 3, priority: 3 };
const running = moved(moved(unstarted, 'staging'), 'running');

test('a backfill is found by its tenant, and listed newest first, page by page', async () => {
  const made = [];
  for (const at of [1000, 2000, 3000]) made.unshift(await store.create('lists', spec, at));
  expect(await store.find(made[0]?.id ?? '', 'lists')).toEqual(made[0]);
  expect(await store.find(made[0]?.id ?? '', 'another')).toBeUndefined();
  const query = { tenant: 'lists', matches: () => true, limit: 2 };
  const first = await store.list(query);
  const second = await store.list({ ...query, after: first.next });
  expect([...first.backfills, ...second.backfills]).toEqual(made);
  expect([first.next, second.next]).toEqual([made[1]?.id, undefined]);
});

test('one coordinator has a backfill at a time, and only it writes', async () => {
  const { id } = await store.create('holds', spec, 1000);
  const held = await store.hold(id);
  expect(await store.hold(id)).toBeUndefined();
  await held?.extend();
  await held?.write(moved(unstarted, 'staging'));
  await held?.release();
  const next = await store.hold(id);
  expect(await store.hold(id)).toBeUndefined();
  await expect(held?.extend()).rejects.toThrow(LeaseLost);
  await expect(held?.write(running)).rejects.toThrow(LeaseLost);
  expect((await store.find(id))?.progress.state).toBe('staging');
  await next?.release();
});

test('a wish is granted where the state allows it, and taken back by its opposite', async () => {
  const { id } = await store.create('wishes', spec, 1000);
  const wish = (of: Parameters<BackfillStore['wish']>[2]) => store.wish(id, 'wishes', of).then(({ wish: standing }) => standing, ({ code }) => code);
  expect([await wish('resume'), await wish('retry'), await wish('pause'), await wish('pause'), await wish('resume')])
    .toEqual(['backfill-state', 'backfill-state', 'pause', 'pause', undefined]);
  await wish('pause');
  const held = await store.hold(id);
  await held?.write(moved(unstarted, 'paused'), 'pause');
  expect([await store.open(), await wish('pause'), await wish('resume'), await wish('cancel'), await wish('resume')])
    .toEqual([expect.not.arrayContaining([id]), 'backfill-state', 'resume', 'cancel', 'backfill-state']);
  expect(await store.open()).toContain(id);
  // It was granted something else meanwhile, so somebody still has to see to it.
  await held?.write(moved(moved(unstarted, 'paused'), 'running'), 'resume');
  expect((await store.find(id))?.wish).toBe('cancel');
  await held?.write(moved(running, 'canceled'), 'cancel');
  expect([await store.open(), await wish('resume')]).toEqual([expect.not.arrayContaining([id]), 'backfill-state']);
  await expect(store.wish(id, 'another', 'cancel')).rejects.toMatchObject({ code: 'not-found' });
});

/** Everything that is told of a tenant's backfills, as it comes. */
function told(tenant: string): BackfillResult['head'][] {
  const heads: BackfillResult['head'][] = [];
  const reader = new ResultsReader({
    redis, blocking: connect({ redisUrl: server.url }, 'blocking', () => {}), pool: 'backfills', consumer: 'test', onError: (error) => { throw error; },
    onEvents: async (events) => { heads.push(...events.flatMap((event) => (event.kind === 'backfill' && event.tenant === tenant ? [event.head] : []))); },
  });
  reader.start();
  onTestFinished(() => reader.stop());
  return heads;
}

test('what there is to tell leaves with the write that brings it about, each once, by the holder alone', async () => {
  const heads = told('tells');
  const feed = { pool: 'backfills', tenant: 'tells' };
  const start = await followFeed(redis, feed);
  const { id } = await store.create('tells', { ...spec, webhook: { url: 'https://example.com/' } }, 1000);
  const half = { ...running, rows: { total: 10, done: 5, failed: 0 } };
  const completed = moved(moved(half, 'finalizing'), 'completed', { completedAt: 5000, rows: { total: 10, done: 9, failed: 1 } });
  const lost = await store.hold(id);
  await lost?.write(half);
  await lost?.release();
  // As far as the one before had come, and then to the end, noted twice.
  const held = await store.hold(id);
  for (const progress of [half, { ...half, rows: { total: 10, done: 6, failed: 0 } }, half, completed, completed]) await held?.write(progress);
  await expect(lost?.write(moved(half, 'failed', { completedAt: 6000 }))).rejects.toThrow(LeaseLost);
  await held?.release();
  // The next one only finds it ended; then it runs again.
  const next = await store.hold(id);
  const { completedAt: _completedAt, ...before } = completed;
  for (const progress of [completed, moved(before, 'running', { round: 1 }), moved(moved(half, 'finalizing'), 'completed', { completedAt: 7000, round: 1 })]) await next?.write(progress);
  await next?.release();

  await until(() => heads.some(({ at }) => at === 7000), 'the last event');
  expect(heads.map(({ eventId }) => eventId)).toEqual(['progress_0_50', 'progress_0_60', 'completed_5000', 'completed_7000'].map((name) => `evt_${id}_${name}`));
  expect(heads[2]).toEqual({ event: 'backfill.completed', eventId: `evt_${id}_completed_5000`, at: 5000, backfill: { id, tenant: 'tells', createdAt: 1000, spec: { ...spec, webhook: { url: 'https://example.com/' } }, progress: completed } });
  const { events, gap } = await readFeed(redis, feed, start, 100);
  expect([events.map(({ head }) => head), gap]).toEqual([heads.slice(2), false]);
});

test('what was taken back is not granted any more, and the backfill goes on', async () => {
  const { id } = await store.create('takes back', spec, 1000);
  const held = await store.hold(id);
  await held?.write(running);
  await store.wish(id, 'takes back', 'pause');
  await store.wish(id, 'takes back', 'resume');
  expect(await held?.write(moved(running, 'paused'), 'pause')).toBe(false);
  expect([(await store.find(id))?.progress.state, await store.open()]).toEqual(['running', expect.arrayContaining([id])]);
  await store.wish(id, 'takes back', 'pause');
  // A client that misses the answer sends it again.
  for (let sent = 0; sent < 2; sent++) expect(await held?.write(moved(running, 'paused'), 'pause')).toBe(true);
  expect([(await store.find(id))?.progress.state, await store.open()]).toEqual(['paused', expect.not.arrayContaining([id])]);
});

test('a chunk is queued once, its first result stays, and its rows leave the depth once', async () => {
  const chunks = new Chunks(redis, 'default');
  const chunk = (index: number): NewChunk => ({ tenant: 'chunks', model, priority: 3, lastAttempt: false, chunk: { backfillId: 'bf_1', chunk: { index, firstRow: 1 + 10 * index, rows: 10, file: 0, firstLine: 1, data: { offset: 0 } }, round: 0, attempt: 1 } });
  const [one, two] = [chunk(0), chunk(1)];
  const rows = async () => (await readDemand(redis, 'default')).lanes.bulk.tenants.get('chunks') ?? 0;
  const done = { ok: true, done: 9, failed: 1 } as const;
  for (const next of [one, two, one]) await chunks.add(next);
  expect([...await chunks.attempts('bf_1', 0)]).toEqual([[0, 1], [1, 1]]);
  expect([await rows(), await redis.zcard('millrace:{default}:bulk:prioritized')]).toEqual([20, 2]);
  expect([await chunks.settle(one.chunk, done), await chunks.settle(one.chunk, { ...done, done: 0 })]).toEqual([true, false]);
  expect([await chunks.read('bf_1', [one.chunk, two.chunk]), await rows()]).toEqual([[done, 'open'], 10]);
  await chunks.forget('bf_1', [one.chunk]);
  expect([await chunks.settle(one.chunk, done), await chunks.read('bf_1', [one.chunk]), await rows()]).toEqual([false, [undefined], 10]);
  expect([await chunks.drain('bf_1'), await rows(), await redis.zcard('millrace:{default}:bulk:prioritized')]).toEqual([true, 0, 1]);
  await chunks.close();
});

test('a row is to blame once it was found twice with what had died: among others or not, whether a replica or its thread', async () => {
  const replica = (name: string) => new ChunkMarks(redis, { pool: 'default', replica: name });
  const chunk = { backfillId: 'bf_marks', chunk: { index: 0, firstRow: 1, rows: 10, file: 0, firstLine: 1, data: { offset: 0 } }, round: 0, attempt: 1 };
  const dies = async (name: string, from: number, to: number) => replica(name).running(chunk, { from, to });
  await dies('first', 7, 8);
  expect(await replica('second').read(chunk)).toEqual({ suspects: [{ from: 7, to: 8 }], culprits: [] });
  await dies('second', 0, 4);
  expect(await replica('third').read(chunk)).toMatchObject({ suspects: [{ from: 7 }, { from: 0, to: 4 }], culprits: [] });
  await dies('third', 7, 8);
  expect(await replica('fourth').read(chunk)).toMatchObject({ culprits: [7] });
  await dies('fourth', 2, 3);
  expect(await replica('fifth').read(chunk)).toMatchObject({ culprits: [7, 2] });
  // Its own thread dies, and its mark goes: what is known stays.
  await replica('fifth').running(chunk, { from: 4, to: 7 });
  await replica('fifth').threadDied(chunk, { from: 4, to: 7 });
  await replica('fifth').ran(chunk);
  expect(await replica('fifth').threadDeaths(chunk)).toBe(1);
  expect(await replica('fifth').read(chunk)).toEqual({ suspects: [{ from: 7, to: 8 }, { from: 0, to: 4 }, { from: 4, to: 7 }], culprits: [7, 2] });
});
