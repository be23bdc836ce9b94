// What the API tells of a pool's demand, against the truth that was counted; and that nothing is left of it at rest.
import { cp } from 'node:fs/promises';
import path from 'node:path';
import type { PoolDemand, Prediction } from '@millrace/protocol';
import { connect, publishDecision, type Redis } from '@millrace/queue';
import { expect, onTestFinished, test } from 'vitest';
import { bundledModels, endOf, fixtureModels, freeze, predict, send, startTestSystem, startWorker, temporaryFolder, type TestSystem, until } from './rig.ts';

const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
const digit = Array.from({ length: 64 }, (_, index) => index % 17);
/** About 5 ms of one core. */
const heavy = { model: 'digits-deep', inputs: Array.from({ length: 8 }, () => digit) };

async function started(options: Parameters<typeof startTestSystem>[0]): Promise<{ system: TestSystem; redis: Redis; demand: () => Promise<PoolDemand> }> {
  const system = await startTestSystem(options);
  onTestFinished(() => system.stop());
  const redis = connect({ redisUrl: system.redisUrl }, 'worker', () => {});
  onTestFinished(() => redis.disconnect());
  return { system, redis, demand: async () => (await send(system, 'GET', '/api/v1/autoscale/default')).body as PoolDemand };
}

/** Submits them in one batch; their ids. */
async function submit(system: TestSystem, requests: readonly object[]): Promise<string[]> {
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests });
  return body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id);
}

const many = <Item>(count: number, item: Item): Item[] => Array.from({ length: count }, () => item);
const cancel = (system: TestSystem, ids: readonly string[]) => Promise.all(ids.map((id) => send(system, 'POST', `/api/v1/predictions/${id}/cancel`)));
const ofModel = ({ models }: PoolDemand, name: string) => models.find(({ model }) => model === name);

test('the route tells what was accepted and not settled, by lane and model version, what serves it and what was decided', async () => {
  const { system, redis, demand } = await started({ workers: 0 });
  const ids = await submit(system, [...many(30, iris), ...many(10, heavy)]);
  await cancel(system, ids.slice(0, 5));
  const waiting = await until(async () => {
    const read = await demand();
    return read.rows === 105 && read.arrival_rows_per_second > 0 && read;
  }, 'what was accepted');
  expect(waiting).toMatchObject({
    pool: 'default', rows_waiting: 105, rows_running: 0, backlog_seconds: 0, workers: { ready: 0, starting: 0, draining: 0, threads: 0 }, desired_workers: null, reason: null,
    lanes: { online: { rows: 105 }, bulk: { rows: 0, oldest_age_seconds: 0, arrival_rows_per_second: 0 } },
    models: [{ model: 'digits-deep', version: 1, seconds_per_row: null, online: { rows_waiting: 80, rows_running: 0 } }, { model: 'iris', version: 1, online: { rows_waiting: 25 } }],
  });
  expect(waiting.oldest_age_seconds).toBeGreaterThan(0);

  await publishDecision(redis, 'default', { desiredWorkers: 3, reason: 'backlog', decidedAt: Date.now() }, 60);
  await startWorker(system, { MILLRACE_INFERENCE_THREADS: '2' });
  for (const id of ids) await endOf(system, id);
  const done = await until(async () => {
    const read = await demand();
    return read.rows === 0 && read.workers.ready === 1 && read;
  }, 'rest');
  expect(done).toMatchObject({ rows_waiting: 0, rows_running: 0, oldest_age_seconds: 0, backlog_seconds: 0, workers: { ready: 1, threads: 2 }, desired_workers: 3, reason: 'backlog' });
  const seconds = (name: string) => ofModel(done, name)?.seconds_per_row as number;
  // About 0.6 ms and some µs, which other work on the machine only makes longer.
  expect(seconds('iris')).toBeGreaterThan(0);
  expect(seconds('digits-deep')).toBeGreaterThan(1e-5);

  const text = (await send(system, 'GET', '/metrics')).body as string;
  expect(text).toContain('millrace_queue_rows{pool="default",lane="online",model="iris",version="1",state="waiting",service="api"} 0');
  expect(text).toContain('millrace_queue_arrived_rows_total{pool="default",lane="online",model="digits-deep",version="1",service="api"} 80');
  expect(text).toContain('millrace_workers{pool="default",state="ready",service="api"} 1');
  expect(text).toContain('millrace_workers_desired{pool="default",service="api"} 3');
});

test('a pool that no model belongs to is not found', async () => {
  const { system } = await started({ workers: 0 });
  const { status, body } = await send(system, 'GET', '/api/v1/autoscale/gpu');
  expect([status, body.type, body.detail]).toEqual([404, '/problems/not-found', 'No model belongs to a pool "gpu"']);
  expect((await send(system, 'GET', '/api/v1/autoscale/No%20pool')).body.type).toBe('/problems/malformed-request');
});

test('in the middle of the work it agrees with the states of the predictions', async () => {
  const { system, demand } = await started({ workers: 1 });
  const ids = await submit(system, many(600, heavy));
  await endOf(system, ids[50] as string);
  const pid = system.workers[0]?.pid as number;
  freeze(pid);

  // Nothing moves any more once two readings are the same.
  let last: PoolDemand | undefined;
  const still = await until(async () => {
    const [before, read] = [last, last = await demand()];
    return before !== undefined && before.oldest_age_seconds < read.oldest_age_seconds && before.rows === read.rows && before.rows_running === read.rows_running && read;
  }, 'stillness');
  const { body: { predictions } } = await send(system, 'GET', '/api/v1/predictions?page_size=1000');
  const rowsOf = (wanted: string) => 8 * predictions.filter(({ status }: Prediction) => status === wanted).length;
  expect(rowsOf('succeeded')).toBeGreaterThan(0);
  expect([still.rows_waiting, still.rows_running]).toEqual([rowsOf('queued'), rowsOf('running')]);
  expect(ofModel(still, 'digits-deep')?.online).toEqual({ rows_waiting: still.rows_waiting, rows_running: still.rows_running });
  expect(still.backlog_seconds).toBeCloseTo(still.rows * (ofModel(still, 'digits-deep')?.seconds_per_row as number), 6);
});

test('nothing is left of what was canceled, tried again, expired, refused by its model, handed back, or killed with its worker', async () => {
  const { system, redis, demand } = await started({ workers: 0 });
  // A repository that lacks a model: what asks for it is tried again until it comes.
  const models = await temporaryFolder();
  for (const name of ['iris', 'digits']) await cp(path.join(bundledModels, name), path.join(models, name), { recursive: true });
  await cp(path.join(fixtureModels, 'fails-on-negative'), path.join(models, 'fails-on-negative'), { recursive: true });
  const newWorker = () => startWorker({ ...system, models }, { MILLRACE_MODEL_SCAN_SECONDS: '0.2' });

  const expired = await submit(system, many(10, { ...iris, deadline_ms: 1 }));
  const [killed, stopped] = [await newWorker(), await newWorker()];
  const late = await submit(system, many(20, { ...heavy, max_attempts: 10 }));
  const failed = await submit(system, many(10, { model: 'fails-on-negative', inputs: [[-11]] }));
  await until(async () => (await send(system, 'GET', `/api/v1/predictions/${late[0]}`)).body.attempts >= 1, 'a second attempt');
  await cancel(system, late.slice(0, 5));
  await cp(path.join(bundledModels, 'digits-deep'), path.join(models, 'digits-deep'), { recursive: true });
  await submit(system, many(500, heavy));
  await cancel(system, late.slice(5, 10));
  await until(async () => (await demand()).rows_running > 0, 'work');
  killed.child.kill('SIGKILL');
  await newWorker();
  stopped.child.kill('SIGTERM');
  await stopped.ended;

  expect((await predict(system, 'iris', iris.inputs)).body.status).toBe('succeeded');
  const ends = await Promise.all([...expired, ...late, ...failed].map((id) => endOf(system, id)));
  expect(new Set(ends.map(({ status }) => status))).toEqual(new Set(['expired', 'canceled', 'succeeded', 'failed']));
  await until(async () => await redis.exists('millrace:{default}:depth', 'millrace:{default}:bookings') === 0, 'nothing to be booked', 60);
  const rest = await until(async () => {
    const read = await demand();
    return read.rows === 0 && read.workers.ready === 1 && read;
  }, 'rest');
  expect(rest.models.map(({ online }) => online)).toEqual(many(rest.models.length, { rows_waiting: 0, rows_running: 0 }));
}, 120_000);
