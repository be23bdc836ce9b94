// What a careful client may rely on: repeated submissions, attempts, priorities, retention, and one winner of every race.
import { createHash } from 'node:crypto';
import { cp } from 'node:fs/promises';
import path from 'node:path';
import type { Prediction } from '@millrace/protocol';
import { connect, IdempotencyKeys } from '@millrace/queue';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Answer, bundledModels, endOf, freeze, predict, send, startApp, startTestSystem, startWorker, temporaryFolder, type TestSystem, until } from './rig.ts';

let system: TestSystem;
beforeAll(async () => { system = await startTestSystem(); });
afterAll(() => system.stop());

const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
const digit = Array.from({ length: 64 }, (_, index) => index % 17);
/** About 5 ms of one core. */
const heavy = { model: 'digits-deep', inputs: Array.from({ length: 8 }, () => digit) };

const post = (body: unknown, headers: Record<string, string> = {}, to: { url: string } = system): Promise<Answer> =>
  send(to as TestSystem, 'POST', '/api/v1/predictions', body, headers);
const read = (id: string, query = ''): Promise<Answer> => send(system, 'GET', `/api/v1/predictions/${id}${query}`);
const end = (id: string): Promise<Prediction> => endOf(system, id);

/** A second API beside that of the system. */
async function anotherApi(): Promise<{ url: string }> {
  const api = startApp('api', { REDIS_URL: system.redisUrl, MILLRACE_MODELS: system.models, MILLRACE_PORT: '0' });
  const ready = await until(() => api.logs.find(({ msg }) => msg === 'api is ready'), 'the API');
  return { url: String(ready['url']) };
}

async function settledBy(workerUrl: string): Promise<number> {
  const metrics = await (await fetch(`${workerUrl}/metrics`)).text();
  return [...metrics.matchAll(/^millrace_predictions_total\{[^}]*\} (\d+)/gm)].reduce((sum, [, count]) => sum + Number(count), 0);
}

test('the same key and body lead to the same prediction', async () => {
  const key = { 'idempotency-key': '"order-1"' };
  const first = await post({ ...iris, metadata: { a: '1', b: '2' } }, key);
  expect([first.status, first.headers.get('idempotency-replayed')]).toEqual([202, null]);
  await end(first.body.id);
  const again = await post('{"metadata":{"b":"2","a":"1"}, "inputs":[[5.1,3.5,1.4,0.2]], "model":"iris"}', { 'idempotency-key': 'order-1' });
  expect([again.status, again.headers.get('idempotency-replayed'), again.body.id]).toEqual([200, 'true', first.body.id]);
  expect(again.body).toEqual((await read(first.body.id)).body);
  const waited = await post({ ...iris, metadata: { a: '1', b: '2' } }, { ...key, prefer: 'wait=30' });
  expect(waited.body).toEqual(again.body);
});

test('the same key with another body is refused, another key is another prediction', async () => {
  const key = { 'idempotency-key': 'order-2' };
  const { body: { id } } = await post(iris, key);
  const other = await post({ ...iris, inputs: [[1, 2, 3, 4]] }, key);
  expect([other.status, other.body.type]).toEqual([422, '/problems/idempotency-mismatch']);
  expect((await post(iris, { 'idempotency-key': 'order-3' })).body.id).not.toBe(id);
  expect((await post(iris, { 'idempotency-key': 'x'.repeat(256) })).status).toBe(400);
});

test('100 submissions with one key at once, to two API nodes, make one prediction, which runs once', async () => {
  const nodes = [system, await anotherApi()];
  const worker = system.workerUrls[0] as string;
  const before = await settledBy(worker);
  const answers = await Promise.all(Array.from({ length: 100 }, (_, index) => post(iris, { 'idempotency-key': 'race', ...(index % 3 === 0 && { prefer: 'wait=30' }) }, nodes[index % 2])));
  expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
  expect(answers.filter(({ headers }) => headers.get('idempotency-replayed') === null)).toHaveLength(1);
  await end(answers[0]?.body.id);
  const after = await predict(system, 'iris', iris.inputs);
  expect(after.body.status).toBe('succeeded');
  const settled = await until(async () => { const count = await settledBy(worker) - before; return count >= 2 && count; }, 'both are counted');
  expect(settled).toBe(2);
});

test('a key whose API died before it had queued the prediction can be used again', async () => {
  const redis = connect({ redisUrl: system.redisAdminUrl as string }, 'worker', () => {});
  onTestFinished(() => redis.disconnect());
  const first = await post(iris, { 'idempotency-key': 'lost' });
  // As if that API had died between the key and the queue.
  const neverQueued = (first.body.id as string).replace(/.(?=-\d+$)/, (last) => (last === 'a' ? 'b' : 'a'));
  await redis.unlink(...await redis.keys('millrace:idempotency:default:*'));
  const fingerprint = createHash('sha256').update('{"inputs":[[5.1,3.5,1.4,0.2]],"model":"iris"}').digest('base64url');
  await new IdempotencyKeys(redis, 60).reserve('default', { key: 'lost', fingerprint }, neverQueued);
  const again = await post(iris, { 'idempotency-key': 'lost', prefer: 'wait=30' });
  expect(again.body).toMatchObject({ status: 'succeeded' });
  expect(again.body.id).not.toBe(neverQueued);
  expect((await post(iris, { 'idempotency-key': 'lost' })).body.id).toBe(again.body.id);
});

test('a batch that is repeated leads to the same predictions', async () => {
  const key = { 'idempotency-key': 'batch-1' };
  const batch = (requests: unknown[]) => send(system, 'POST', '/api/v1/predictions:batch', { requests }, key);
  const ids = ({ body }: Answer) => body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id);
  const first = await batch([iris, iris, heavy]);
  expect(ids(await batch([iris, iris, heavy]))).toEqual(ids(first));
  const other = await batch([iris, heavy, iris]);
  expect(other.body.results.map(({ error }: { error: { type: string } }) => error.type)).toEqual(Array.from({ length: 3 }, () => '/problems/idempotency-mismatch'));
});

test('what is urgent runs before what was queued earlier', async () => {
  const thaw = freeze(system.workers[0]?.pid);
  const batch = async (priority: number | undefined) => (await send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: 200 }, () => ({ ...heavy, priority })) }))
    .body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id) as string[];
  const [late, usual, urgent] = [await batch(7), await batch(undefined), await batch(0)];
  thaw();
  const lastOf = async (ids: string[]) => Math.max(...(await Promise.all(ids.map(end))).map(({ completed_at: at }) => Date.parse(String(at))));
  const [lateEnd, usualEnd, urgentEnd] = await Promise.all([lastOf(late), lastOf(usual), lastOf(urgent)]);
  expect(urgentEnd).toBeLessThan(usualEnd);
  expect(usualEnd).toBeLessThan(lateEnd);
});

test('every race of a cancellation with the result has one winner, which stays', async () => {
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: 200 }, () => heavy) });
  const ids = body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id) as string[];
  const answers = await Promise.all(ids.map(async (id, index) => {
    if (index % 2 === 0) await read(id, '?wait=60');
    return send(system, 'POST', `/api/v1/predictions/${id}/cancel`);
  }));
  const ends = await Promise.all(ids.map(end));
  expect(answers.map(({ status }) => status)).toEqual(ends.map(({ status }) => (status === 'canceled' ? 200 : 409)));
  expect(new Set(ends.map(({ status }) => status))).toEqual(new Set(['canceled', 'succeeded']));
  for (const { status, outputs } of ends) expect(outputs === null).toBe(status === 'canceled');
  expect(await Promise.all(ids.map(end))).toEqual(ends);
});

test('a failure that may pass is tried again as often as the client wants, and meanwhile it can be read and canceled', async () => {
  const repository = await temporaryFolder();
  const models = await temporaryFolder();
  await cp(bundledModels, models, { recursive: true });
  await cp(path.join(bundledModels, 'iris'), path.join(repository, 'iris'), { recursive: true });
  const api = await startTestSystem({ models, workers: 0 });
  onTestFinished(() => api.stop());
  await startWorker({ ...api, models: repository }, { MILLRACE_MODEL_SCAN_SECONDS: '0.2' });

  const submit = async (more: object) => (await send(api, 'POST', '/api/v1/predictions', { ...heavy, ...more })).body.id as string;
  const [twice, once, forLong, dropped] = await Promise.all([submit({ max_attempts: 2 }), submit({ max_attempts: 1 }), submit({ max_attempts: 10 }), submit({ max_attempts: 10 })]);
  const find = async (id: string, query = '') => (await send(api, 'GET', `/api/v1/predictions/${id}${query}`)).body as Prediction;
  const unavailable = { status: 'failed', error: { type: '/problems/model-unavailable' } };
  expect(await find(once, '?wait=60')).toMatchObject(unavailable);
  expect(await find(twice, '?wait=60')).toMatchObject({ ...unavailable, attempts: 2 });
  const tried = await until(async () => { const now = await find(dropped); return now.attempts >= 2 && now.status === 'queued' && now; }, 'a second attempt');
  expect(tried).toMatchObject({ model: 'digits-deep', outputs: null });
  expect((await send(api, 'POST', `/api/v1/predictions/${dropped}/cancel`)).body.status).toBe('canceled');
  // The model comes late, as in a rolling update.
  await cp(path.join(bundledModels, 'digits-deep'), path.join(repository, 'digits-deep'), { recursive: true });
  const late = await find(forLong, '?wait=60');
  expect(late.status).toBe('succeeded');
  expect(late.attempts).toBeGreaterThanOrEqual(2);
  expect(await find(dropped)).toMatchObject({ status: 'canceled', outputs: null });
  await until(async () => /millrace_queue_depth\{queue="default\/online",service="api"\} 0/.test((await send(api, 'GET', '/metrics')).body as string), 'everything is done');
});

test('no attempt begins after the deadline, and a canceled prediction leaves no inputs behind', async () => {
  const repository = await temporaryFolder();
  await cp(path.join(bundledModels, 'iris'), path.join(repository, 'iris'), { recursive: true });
  const api = await startTestSystem({ workers: 0 });
  onTestFinished(() => api.stop());
  await startWorker({ ...api, models: repository });
  const late = await send(api, 'POST', '/api/v1/predictions', { ...heavy, max_attempts: 10, deadline_ms: 2_500 });
  const { body: end } = await send(api, 'GET', `${late.body.urls.get}?wait=30`);
  expect([end.status, end.error.type]).toEqual(['failed', expect.stringMatching(/model-unavailable|deadline-exceeded/)]);
  // The fourth would begin after 3.5 s at the earliest.
  expect(end.attempts).toBeLessThanOrEqual(3);

  const redis = connect({ redisUrl: api.redisAdminUrl as string }, 'worker', () => {});
  onTestFinished(() => redis.disconnect());
  const large = await send(api, 'POST', '/api/v1/predictions', { ...heavy, inputs: Array.from({ length: 1000 }, () => digit), max_attempts: 10 });
  expect(await redis.keys('millrace:{default}:payload:*')).toHaveLength(1);
  expect((await send(api, 'POST', large.body.urls.cancel)).body).toMatchObject({ status: 'canceled' });
  await until(async () => (await redis.keys('millrace:{default}:payload:*')).length === 0, 'the inputs are gone');
});

test('a result is gone after the retention, and says so', async () => {
  const brief = await startTestSystem({ env: { MILLRACE_RETENTION_SECONDS: '1' } });
  onTestFinished(() => brief.stop());
  const { body } = await predict(brief, 'iris', iris.inputs);
  const gone = await until(async () => {
    const answer = await send(brief, 'GET', body.urls.get);
    return answer.status === 200 ? undefined : answer;
  }, 'the result expires');
  expect([gone.status, gone.body.type]).toEqual([410, '/problems/result-expired']);
});
