// Listing: every prediction once, newest first, whatever comes in meanwhile.
import { cp, mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { newBundleId, type PredictionSummary, type ResultRecord } from '@millrace/protocol';
import { connect, listPredictions, Producer, Settler } from '@millrace/queue';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { bundledModels, predict, send, startTestSystem, type TestSystem, until } from './rig.ts';

let system: TestSystem;
/** All that this file submits before it lists, by what shall become of it. */
const ids: Record<'succeeded' | 'failed' | 'queued' | 'canceled', string[]> = { succeeded: [], failed: [], queued: [], canceled: [] };
const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
/** Of a pool that no worker serves. */
const elsewhere = { model: 'elsewhere', inputs: iris.inputs };

async function submit(requests: readonly unknown[]): Promise<string[]> {
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests });
  return body.results.map(({ prediction }: { prediction: { id: string } }) => prediction.id);
}

async function list(query: Record<string, string | number> = {}): Promise<{ predictions: PredictionSummary[]; next_page_token: string }> {
  const parameters = new URLSearchParams(Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]));
  const { status, body } = await send(system, 'GET', `/api/v1/predictions?${parameters.toString()}`);
  expect([status, body]).toEqual([200, expect.anything()]);
  return body;
}

/** All pages, one after another. */
async function listAll(query: Record<string, string | number>, betweenPages: () => Promise<unknown> = () => Promise.resolve()): Promise<PredictionSummary[]> {
  const all: PredictionSummary[] = [];
  let token = '';
  do {
    const page = await list({ ...query, page_token: token });
    all.push(...page.predictions);
    token = page.next_page_token;
    await betweenPages();
  } while (token !== '');
  return all;
}

const idsOf = (predictions: readonly PredictionSummary[]) => predictions.map(({ id }) => id);
/** The bundle's time and what makes it unique, then the place in it. */
const orderOf = (id: string) => id.replace(/^[a-z0-9]+-/, '').replace(/-(\d)$/, '-0$1');

beforeAll(async () => {
  system = await startTestSystem();
  const folder = path.join(system.models, 'elsewhere');
  await mkdir(folder);
  await writeFile(path.join(folder, 'model.yaml'), 'pool: other\n');
  await cp(path.join(bundledModels, 'iris/1'), path.join(folder, '1'), { recursive: true });
  await until(async () => (await send(system, 'GET', '/api/v1/models/elsewhere')).body.default_version === 1, 'the model');

  for (let round = 0; round < 5; round++) {
    const one = await predict(system, 'iris', iris.inputs, { metadata: { a: ',"outputs":{', outputs: 'x' }, parameters: { outputs: ['label'] } });
    ids.succeeded.push(one.body.id, ...await submit(Array.from({ length: 60 }, () => iris)));
    ids.failed.push(...await submit(Array.from({ length: 10 }, () => ({ model: 'fails-on-negative', inputs: [[-11]] }))));
    ids.queued.push(...await submit(Array.from({ length: 70 }, () => elsewhere)));
  }
  for (const id of ids.queued.splice(0, 30)) {
    await send(system, 'POST', `/api/v1/predictions/${id}/cancel`);
    ids.canceled.push(id);
  }
  for (const id of [...ids.succeeded, ...ids.failed]) await send(system, 'GET', `/api/v1/predictions/${id}?wait=30`);
});
afterAll(() => system.stop());

const everything = () => Object.values(ids).flat();

test('paging meets every prediction once, newest first, while new ones arrive', async () => {
  const listed = idsOf(await listAll({ page_size: 37 }, () => submit([iris, elsewhere])));
  expect(new Set(listed).size).toBe(listed.length);
  expect(listed.toSorted()).toEqual(everything().toSorted());
  expect(listed).toEqual(listed.toSorted((a, b) => (orderOf(a) < orderOf(b) ? 1 : -1)));
  expect(idsOf((await list({ page_size: 0 })).predictions)).toHaveLength(50);
  expect(idsOf((await list({ page_size: 5000 })).predictions).slice(-everything().length)).toEqual(listed);
});

test('an entry is the prediction without outputs and labels', async () => {
  const all = await listAll({ page_size: 1000 });
  for (const id of [ids.succeeded[0], ids.succeeded[1], ids.failed[0], ids.queued[0], ids.canceled[0]]) {
    const { outputs: _outputs, labels: _labels, ...rest } = (await send(system, 'GET', `/api/v1/predictions/${id}`)).body;
    expect(all.find((entry) => entry.id === id)).toEqual(rest);
  }
});

test.each(['succeeded', 'failed', 'queued', 'canceled'] as const)('status=%s lists those', async (status) => {
  const listed = idsOf(await listAll({ status, page_size: 25, created_before: await newest() }));
  expect(listed.toSorted()).toEqual(ids[status].toSorted());
});

/** Just after the last one that was submitted before all tests. */
async function newest(): Promise<string> {
  const times = (await listAll({ page_size: 1000 })).filter(({ id }) => everything().includes(id)).map(({ created_at: at }) => Date.parse(at));
  return new Date(Math.max(...times) + 1).toISOString();
}

test('models, versions and times are filters too', async () => {
  const all = await listAll({ page_size: 1000 });
  const ofModel = idsOf(all.filter(({ model }) => model === 'fails-on-negative'));
  expect(idsOf(await listAll({ model: 'fails-on-negative' }))).toEqual(ofModel);
  expect(idsOf(await listAll({ model: 'fails-on-negative@1', status: 'failed' }))).toEqual(ofModel);
  expect(await listAll({ model: 'fails-on-negative@2' })).toEqual([]);
  expect(await listAll({ status: 'running' })).toEqual([]);
  const middle = all[Math.floor(all.length / 2)]?.created_at as string;
  expect(idsOf(await listAll({ created_after: middle, page_size: 100 }))).toEqual(idsOf(all.filter(({ created_at: at }) => at > middle)));
  expect(idsOf(await listAll({ created_before: middle, page_size: 100 }))).toEqual(idsOf(all.filter(({ created_at: at }) => at < middle)));
  expect(await listAll({ created_after: '2100-01-01T00:00:00Z' })).toEqual([]);
});

test('what cannot be is refused', async () => {
  const { next_page_token: token } = await list({ status: 'failed', page_size: 1 });
  for (const query of [`page_token=${token}`, `status=queued&page_token=${token}`, `status=failed&page_token=${token}x`, 'page_token=nonsense', 'page_size=-1', 'page_size=many', 'status=lost', 'created_after=yesterday', 'model=Iris', 'order=oldest']) {
    const { status, body } = await send(system, 'GET', `/api/v1/predictions?${query}`);
    expect([query, status, body.type]).toEqual([query, 400, '/problems/malformed-request']);
  }
  expect((await list({ status: 'failed', page_size: 7, page_token: token })).predictions).toHaveLength(7);
});

test('tenants see their own, what has expired is left out, and marks beside the results are no predictions', async () => {
  const redis = connect(system, 'producer', (error) => { throw error; });
  onTestFinished(() => redis.disconnect());
  await until(() => redis.status === 'ready', 'Redis');
  const pool = 'shared';
  const producer = new Producer(redis, 600);
  const settler = new Settler(redis, pool, 600);
  const add = async (tenant: string) => {
    const bundleId = newBundleId(pool);
    const predictions = [0, 1].map((index) => ({ inputs: {}, rows: 1, acceptedAt: index }));
    await producer.add(pool, bundleId, { format: 1, tenant, model: { name: 'iris', version: 1, digest: '' }, lane: 'online', priority: 3, predictions }, []);
    return bundleId;
  };
  const [first, , other, gone, last] = [await add('a'), await add('a'), await add('b'), await add('a'), await add('a')];
  await redis.del(`millrace:{${pool}}:online:${gone}`);
  const record: ResultRecord = { outcome: 'succeeded', model: 'iris', version: 1, rows: 1, acceptedAt: 1, settledAt: 2, outputs: { y: { dtype: 'string', shape: [1], data: ['é","outputs":{'] } }, labels: ['b'] };
  await settler.settle({ bundleId: last, tenant: 'a' }, [{ index: 1, record }]);
  await redis.hset(`millrace:{${pool}}:results:${last}`, 'crashed-1', '1');
  const page = (tenant: string, limit = 10) => listPredictions(redis, { tenant, pools: [pool, 'empty'], matches: () => true, limit });

  const { predictions, next } = await page('a');
  expect(predictions.map(({ id }) => id)).toEqual([`${last}-1`, `${last}-0`, expect.anything(), expect.anything(), `${first}-1`, `${first}-0`]);
  expect(predictions[0]?.summary).toEqual({ outcome: 'succeeded', model: 'iris', version: 1, rows: 1, acceptedAt: 1, settledAt: 2 });
  expect(predictions[1]?.summary).toMatchObject({ state: 'queued', acceptedAt: 0 });
  expect(next).toBeUndefined();
  expect((await page('b')).predictions.map(({ id }) => id)).toEqual([`${other}-1`, `${other}-0`]);
  expect((await page('c')).predictions).toEqual([]);
  expect((await page('a', 3)).next).toBeDefined();
});
