// What is accepted is done, whichever process stops, dies or hangs meanwhile.
import type { Prediction } from '@millrace/protocol';
import { expect, onTestFinished, test } from 'vitest';
import { bundledModels, endOf, freePort, freeze, predict, send, startApp, startTestSystem, startWorker, type TestOptions, type TestSystem, until, within } from './rig.ts';

const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
const digit = Array.from({ length: 64 }, (_, index) => index % 17);
/** About 5 ms of one core. */
const heavy = { model: 'digits-deep', inputs: Array.from({ length: 8 }, () => digit) };
/** BullMQ's lock: what a lost claim costs. */
const lockMs = 15_000;

/** A system that ends with its test. */
async function started(options: TestOptions = {}): Promise<TestSystem> {
  const system = await startTestSystem(options);
  onTestFinished(() => system.stop());
  return system;
}

/** Queues heavy predictions in one batch; their ids. */
async function enqueue(system: TestSystem, count: number): Promise<string[]> {
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: count }, () => heavy) });
  return body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id);
}

/** Waits for the ends of predictions, a few at a time. */
async function endsOf(system: TestSystem, ids: readonly string[]): Promise<Prediction[]> {
  const rest = ids.values();
  const ends: Prediction[] = [];
  await Promise.all(Array.from({ length: 20 }, async () => {
    for (const id of rest) ends.push(await endOf(system, id));
  }));
  return ends;
}

const statuses = (predictions: readonly Prediction[]) => [...new Set(predictions.map(({ status }) => status))];
const messages = (logs: readonly Record<string, unknown>[]) => logs.map(({ msg }) => msg);

async function claimedRows(workerUrl: string): Promise<number> {
  const metrics = await (await fetch(`${workerUrl}/metrics`)).text();
  return Number(/millrace_worker_claimed_rows\{[^}]*\} (\d+)/.exec(metrics)?.[1]);
}

/** Looks whether the API answers with this status; while it is down it has none. */
async function answers(system: TestSystem, where: string, status = 200): Promise<boolean> {
  return send(system, 'GET', where).then((answer) => answer.status === status, () => false);
}

test('a worker that is told to stop ends cleanly and hands back what it has not done', async () => {
  const system = await started();
  const { child, url, logs, ended } = await startWorker(system);
  const ids = await enqueue(system, 300);
  await until(async () => await claimedRows(url) > 0, 'a claim');
  const stoppedAt = Date.now();
  child.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
  expect(messages(logs)).toEqual(expect.arrayContaining(['stopping', 'stopped']));
  expect(logs.filter(({ level }) => level !== 'info')).toEqual([]);

  const ends = await endsOf(system, ids);
  expect(ends).toHaveLength(300);
  expect(statuses(ends)).toEqual(['succeeded']);
  expect(Math.max(...ends.map(({ completed_at: at }) => Date.parse(String(at)))) - stoppedAt).toBeLessThan(lockMs);
  expect(new Set((await endsOf(system, ids)).map((end) => JSON.stringify(end)))).toEqual(new Set(ends.map((end) => JSON.stringify(end))));
});

test('what a killed worker had claimed is done by the next one', async () => {
  const system = await started();
  const ids = await enqueue(system, 300);
  await until(async () => await claimedRows(system.workerUrls[0] as string) > 0, 'a claim');
  process.kill(system.workers[0]?.pid as number, 'SIGKILL');
  const killedAt = Date.now();
  expect(statuses(await endsOf(system, ids))).toEqual(['succeeded']);
  expect(Date.now() - killedAt).toBeLessThan(60_000);
  expect(messages(system.logs)).toContain('ended unexpectedly, starting it again');
});

test('what a killed API had accepted is done', async () => {
  const system = await started({ port: await freePort() });
  const ids: string[] = [];
  const sending = Array.from({ length: 100 }, async () => {
    const { status, body } = await send(system, 'POST', '/api/v1/predictions', heavy);
    if (status === 202) ids.push(body.id);
  });
  await until(() => ids.length > 0, 'the first is accepted');
  process.kill(system.api.pid as number, 'SIGKILL');
  await Promise.allSettled(sending);
  await until(() => answers(system, '/readyz'), 'the API is back');
  expect(ids.length).toBeGreaterThan(0);
  const ends = await endsOf(system, ids);
  expect([ends.length, statuses(ends)]).toEqual([ids.length, ['succeeded']]);
  expect((await predict(system, 'iris', iris.inputs)).body.status).toBe('succeeded');
});

test('while Redis hangs the API says so, and goes on when Redis does', async () => {
  const system = await started({ privateRedis: true });
  const { body: { id } } = await predict(system, 'iris', iris.inputs);
  const pids = [system.api.pid, system.workers[0]?.pid];
  const thaw = freeze(system.redisPid);
  const pausedAt = Date.now();
  const [read, batch, metrics, waited, dispatcher, ...queued] = await Promise.all([
    send(system, 'GET', `/api/v1/predictions/${id}`),
    send(system, 'POST', '/api/v1/predictions:batch', { requests: [iris] }),
    send(system, 'GET', '/metrics'),
    send(system, 'POST', '/api/v1/predictions', iris, { prefer: 'wait=30' }),
    fetch(`${system.dispatcherUrl}/metrics`),
    // More than may be on their way to Redis at once.
    ...Array.from({ length: 10 }, () => send(system, 'POST', '/api/v1/predictions', iris)),
  ]);
  expect(Date.now() - pausedAt).toBeLessThan(15_000);
  for (const { status, headers, body } of [read, waited, ...queued]) {
    expect([status, headers.get('content-type'), body.type]).toEqual([503, 'application/problem+json', '/problems/queue-unavailable']);
    expect(Number(headers.get('retry-after'))).toBeGreaterThan(0);
  }
  expect(batch.body).toMatchObject({ accepted: 0, rejected: 1, results: [{ error: { type: '/problems/queue-unavailable' } }] });
  expect((await send(system, 'GET', '/readyz')).body).toMatchObject({ status: 'unavailable', checks: { redis: { ok: false }, models: { ok: true } } });
  expect((await send(system, 'GET', '/healthz')).status).toBe(200);

  thaw();
  await until(() => answers(system, '/readyz'), 'the API is ready');
  expect((await predict(system, 'iris', iris.inputs)).body.status).toBe('succeeded');
  expect((await send(system, 'GET', `/api/v1/predictions/${id}`)).body.status).toBe('succeeded');
  expect([system.api.pid, system.workers[0]?.pid]).toEqual(pids);
  expect([metrics.status, dispatcher.status]).toEqual([200, 200]);
});

test('events that no dispatcher takes are seen, since the API tells of them', async () => {
  const system = await started({ dispatcher: false });
  const { body: { status } } = await predict(system, 'iris', iris.inputs, { webhook: { url: 'https://example.com' } });
  expect(status).toBe('succeeded');
  const metrics = async () => (await send(system, 'GET', '/metrics')).body as string;
  await until(async () => /millrace_results_queue_length\{pool="default",service="api"\} 1\n/.test(await metrics()), 'the event');
  await until(async () => Number(/millrace_results_queue_oldest_age_seconds\{pool="default",service="api"\} (.+)/.exec(await metrics())?.[1]) >= 1, 'its age');
});

test('a client that leaves while it waits does no harm', async () => {
  const system = await started();
  const ids = await enqueue(system, 100);
  const leaving = new AbortController();
  const url = `${system.url}/api/v1/predictions`;
  const waiting = [
    ...ids.map((id) => fetch(`${url}/${id}?wait=60`, { signal: leaving.signal })),
    fetch(url, { method: 'POST', headers: { 'content-type': 'application/json', prefer: 'wait=60' }, body: JSON.stringify({ ...heavy, metadata: { left: 'yes' } }), signal: leaving.signal }),
  ];
  await Promise.race(waiting);
  leaving.abort();
  await Promise.allSettled(waiting);
  expect(statuses(await endsOf(system, ids))).toEqual(['succeeded']);
  expect((await predict(system, 'iris', iris.inputs)).body.status).toBe('succeeded');
  await until(async () => /millrace_queue_depth\{queue="default\/online",service="api"\} 0/.test((await send(system, 'GET', '/metrics')).body as string), 'everything is done');
  expect(system.logs.filter(({ level }) => level !== 'info')).toEqual([]);
});

test.each([
  ['an API without its models', 'api', { MILLRACE_MODELS: '/nowhere', MILLRACE_PORT: '0' }, 1, /there is no such folder/],
  ['a worker without its models', 'worker', { MILLRACE_MODELS: '/nowhere', MILLRACE_METRICS_PORT: '0' }, 1, /there is no such folder/],
  ['pools that cannot be', 'autoscaler', { MILLRACE_POOLS: 'default=4', MILLRACE_METRICS_PORT: '0' }, 2, /MILLRACE_POOLS: expected/],
  ['settings that cannot be', 'worker', { MILLRACE_POOL: 'A', MILLRACE_METRICS_PORT: 'x' }, 2, /MILLRACE_POOL: [^]*MILLRACE_METRICS_PORT: /],
] as const)('%s: the process says so and ends', async (_name, app, env, code, reason) => {
  const { ended, logs } = startApp(app, env);
  expect(await within(60, ended, 'the end')).toEqual([code, null]);
  expect(logs.map(({ msg, err }) => `${String(msg)} ${JSON.stringify(err)}`).join('\n')).toMatch(reason);
});

test('an API whose port is taken says so and ends', async () => {
  const { redisUrl, models, url } = await started();
  const { ended, logs } = startApp('api', { REDIS_URL: redisUrl, MILLRACE_MODELS: models, MILLRACE_PORT: new URL(url).port });
  expect(await within(60, ended, 'the end')).toEqual([1, null]);
  expect(JSON.stringify(logs)).toContain('EADDRINUSE');
});

test.each(['api', 'worker', 'autoscaler'] as const)('the %s ends when it is told to while it still waits for Redis', async (app) => {
  const { child, ended, logs } = startApp(app, { REDIS_URL: `redis://127.0.0.1:${await freePort()}`, MILLRACE_MODELS: bundledModels, MILLRACE_PORT: '0', MILLRACE_METRICS_PORT: '0' });
  await until(() => logs.some(({ msg }) => msg === 'Redis connection failed'), 'the first try');
  child.kill('SIGTERM');
  expect(await within(60, ended, 'the end')).toEqual([0, null]);
});
