// The API of backfills: what it refuses, whose they are, and what becomes of those that it takes.
import path from 'node:path';
import type { Backfill } from '@millrace/protocol';
import { BackfillStore, connect, KeyStore, type Redis } from '@millrace/queue';
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { type Answer, send, startTestSystem, temporaryFolder, type TestSystem, until } from './rig.ts';

const backfills = '/api/v1/backfills';

let system: TestSystem;
/** Where backfills may read and write: a folder of each tenant. */
let places: string;
let redis: Redis;

beforeAll(async () => {
  places = await temporaryFolder(afterAll);
  // Nobody works on them here: they stay as they were made.
  system = await startTestSystem({
    privateRedis: true, workers: 0, dispatcher: false,
    env: { MILLRACE_BACKFILL_INPUTS: `${places}/{tenant}, s3://bucket/{tenant}, ${places}/for-all`, MILLRACE_BACKFILL_OUTPUTS: `${places}/{tenant},s3://bucket/{tenant}` },
  });
  redis = connect({ redisUrl: system.redisAdminUrl as string }, 'worker', () => {});
});
beforeEach(() => new BackfillStore(redis, 60).announce());
afterAll(async () => {
  redis.disconnect();
  await system.stop();
});

const at = (name: string, tenant = 'default') => path.join(places, tenant, name);
const request = (more: object = {}) => ({ model: 'digits', input: { uri: at('in.csv') }, output: { uri: at('out.parquet') }, ...more });
const create = (body: unknown, headers: Record<string, string> = {}) => send(system, 'POST', backfills, body, headers);
const pointers = ({ body }: Answer) => body.errors?.map(({ pointer }: { pointer: string }) => pointer);

test('a backfill is taken, with its version pinned, and found again', async () => {
  const { status, headers, body } = await create(request({ mapping: { image: Array.from({ length: 64 }, (_, place) => `pixel_${place}`) }, id_column: 'id', carry: ['digit'], max_error_ratio: 0.1 }));
  expect([status, headers.get('location')]).toEqual([201, `${backfills}/${body.id}`]);
  expect(body).toMatchObject({
    id: expect.stringMatching(/^bf_[0-9a-f]{32}$/), object: 'backfill', status: 'validating', requested: null, model: 'digits', version: 1,
    started_at: null, completed_at: null, rows: { total: null, done: 0, failed: 0 }, rows_per_second: null, eta_seconds: null,
    input: { uri: at('in.csv') }, output: { uri: at('out.parquet') }, id_column: 'id', carry: ['digit'], max_error_ratio: 0.1, max_attempts: 3, priority: 3, chunk_rows: null,
    errors: null, manifest: null, error: null, urls: { pause: `${backfills}/${body.id}/pause` },
  });
  expect((await send(system, 'GET', body.urls.get)).body).toEqual(body);
});

test('every fault that can be told at once is told at once, with its place', async () => {
  const refused = await create({
    model: 'digits', colour: 'red', priority: 9,
    input: { uri: 'in.data', header: 'yes' }, output: { uri: at('out.csv.gz'), format: 'xml' },
    mapping: { image: ['one', 'two'], nonsense: 'three' }, max_error_ratio: 2,
  });
  expect([refused.status, refused.body.type]).toEqual([422, '/problems/invalid-backfill']);
  expect(pointers(refused).toSorted()).toEqual(['#/colour', '#/input/header', '#/mapping/image', '#/mapping/nonsense', '#/max_error_ratio', '#/output/format', '#/priority']);
});

test.each([
  ['a name that tells no format', { input: { uri: '/somewhere/in.data' } }, ['#/input/format', '#/input/uri']],
  ['an output that is compressed', { output: { uri: '/somewhere/out.csv.gz' } }, ['#/output/uri', '#/output/uri']],
  ['a path from nowhere', { input: { uri: 'in.csv' } }, ['#/input/uri']],
  ['another protocol', { input: { uri: 'https://example.org/in.csv' } }, ['#/input/uri']],
  ['too few columns', { mapping: { image: ['a'] } }, ['#/mapping/image']],
  ['an input that the model has not', { mapping: { pixels: 'a' } }, ['#/mapping/pixels']],
  ['a model without rows', { model: 'no-batch' }, ['#/model', '#/model', '#/output']],
  ['no model', { model: undefined }, ['#/model']],
])('%s is a fault', async (_name, more, where) => {
  const refused = await create(request(more));
  expect([refused.status, refused.body.type, pointers(refused)]).toEqual([422, '/problems/invalid-backfill', where]);
});

test('an unknown model is 404, with all other faults', async () => {
  const refused = await create(request({ model: 'nope@3', priority: -1 }));
  expect([refused.status, refused.body.type, pointers(refused)]).toEqual([404, '/problems/unknown-model', ['#/priority', '#/model']]);
});

test.each([
  ['a folder beside it', { input: { uri: '/etc/passwd.csv' } }, ['#/input/uri']],
  ['a way back', () => ({ input: { uri: `${at('x')}/../../acme/in.csv` } }), ['#/input/uri']],
  ['another tenant’s', () => ({ input: { uri: at('in.csv', 'acme') }, output: { uri: at('out.csv', 'acme') } }), ['#/input/uri', '#/output/uri']],
  ['a place for inputs', () => ({ output: { uri: at('out.csv', 'for-all') } }), ['#/output/uri']],
  ['another bucket', { input: { uri: 's3://bucket/acme/in.csv' }, output: { uri: 's3://other/default/out.csv' } }, ['#/input/uri', '#/output/uri']],
])('%s is outside of the places', async (_name, more, where) => {
  const refused = await create(request(typeof more === 'function' ? more() : more));
  expect([refused.status, refused.body.type, pointers(refused)]).toEqual([403, '/problems/place-not-allowed', where]);
});

test('inputs that all may read, and buckets, are inside', async () => {
  expect((await create(request({ input: { uri: at('in*.csv.gz', 'for-all') } }))).status).toBe(201);
  expect((await create(request({ input: { uri: 's3://bucket/default/in/*.parquet' }, output: { uri: 's3://bucket/default/out.csv' } }))).status).toBe(201);
});

test('a backfill takes along the webhook that it names, and its faults stand among the others', async () => {
  const webhook = { url: 'https://93.184.215.14/hooks', events: ['backfill.progress', 'backfill.failed'], payload: 'full' };
  const { status, body } = await create(request({ webhook }));
  expect([status, body.webhook, (await new BackfillStore(redis, 60).find(body.id))?.spec]).toEqual([201, undefined, expect.objectContaining({ webhook, data: { input: { uri: at('in.csv') }, output: { uri: at('out.parquet') } } })]);
  for (const [wrong, where] of [
    [{ url: 'https://169.254.169.254/latest' }, ['#/webhook/url']], [{ url: 'http://93.184.215.14/' }, ['#/webhook/url']], [{}, ['#/webhook/url']], [null, ['#/webhook']],
    [{ url: 5, events: ['prediction.completed'], payload: 'fat', colour: 'red' }, ['#/webhook/colour', '#/webhook/events/0', '#/webhook/payload', '#/webhook/url']],
  ] as const) {
    const refused = await create(request({ webhook: wrong, priority: 9 }));
    expect([refused.status, refused.body.type, pointers(refused).toSorted()]).toEqual([422, '/problems/invalid-backfill', ['#/priority', ...where]]);
  }
});

test('an idempotency key makes one backfill', async () => {
  const key = { 'idempotency-key': '"once"' };
  const answers = await Promise.all(Array.from({ length: 5 }, () => create(request(), key)));
  expect(answers.map(({ status }) => status)).toEqual([201, 201, 201, 201, 201]);
  expect(new Set(answers.map(({ body }) => body.id)).size).toBe(1);
  expect(answers.filter(({ headers }) => headers.get('idempotency-replayed') === 'true')).toHaveLength(4);
  const other = await create(request({ priority: 1 }), key);
  expect([other.status, other.body.type]).toEqual([422, '/problems/idempotency-mismatch']);
  expect((await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] }, key)).status).toBe(202);
});

test('a wish is taken where the state allows it', async () => {
  const { body: { urls, id } } = await create(request());
  const ask = async (wish: keyof Backfill['urls']) => {
    const { status, body } = await send(system, 'POST', urls[wish]);
    return [status, body.requested ?? body.type ?? null];
  };
  expect(await ask('pause')).toEqual([202, 'pause']);
  expect(await ask('resume')).toEqual([202, null]);
  expect(await ask('retry')).toEqual([409, '/problems/backfill-state']);
  expect(await ask('resume')).toEqual([409, '/problems/backfill-state']);
  expect(await ask('cancel')).toEqual([202, 'cancel']);
  expect(await ask('pause')).toEqual([409, '/problems/backfill-state']);
  expect((await send(system, 'GET', `${backfills}/${id}`)).body).toMatchObject({ status: 'validating', requested: 'cancel' });
  for (const wrong of [id.replace(/.$/, (last: string) => (last === '0' ? '1' : '0')), 'nonsense']) {
    for (const [method, where] of [['GET', ''], ['POST', '/pause'], ['POST', '/retry']] as const) {
      expect((await send(system, method, `${backfills}/${wrong}${where}`)).status).toBe(404);
    }
  }
});

test('they are listed newest first, page by page, for the same filters', async () => {
  const since = new Date().toISOString();
  const made: string[] = [];
  for (const model of ['iris', 'digits', 'iris', 'iris@1']) {
    const { body } = await create(request({ model, output: { uri: at(`${made.length}.csv`) } }));
    made.unshift(body.id);
    await until(() => Date.now() > Date.parse(body.created_at), 'the next millisecond');
  }
  const list = async (query: string) => (await send(system, 'GET', `${backfills}?created_after=${since}&${query}`)).body;
  const ids = ({ backfills: listed }: { backfills: Backfill[] }) => listed.map(({ id }) => id);
  expect(ids(await list(''))).toEqual(made);
  expect(ids(await list('model=digits@1&status=validating'))).toEqual([made[2]]);
  expect(ids(await list('status=completed'))).toEqual([]);
  const first = await list('page_size=2&model=iris');
  const second = await list(`page_size=2&model=iris&page_token=${first.next_page_token}`);
  expect([...ids(first), ...ids(second)]).toEqual([made[0], made[1], made[3]]);
  expect(second.next_page_token).toBe('');
  expect(await list(`page_size=2&model=digits&page_token=${first.next_page_token}`)).toMatchObject({ type: '/problems/malformed-request', errors: [{ pointer: '#/querystring/page_token' }] });
});

test('where no coordinator has a work folder none is taken, and it says why', async () => {
  const other = await startTestSystem({ workers: 0, env: { MILLRACE_BACKFILL_INPUTS: places, MILLRACE_BACKFILL_OUTPUTS: places } });
  onTestFinished(() => other.stop());
  const { status, body } = await send(other, 'POST', backfills, request());
  expect([status, body.type, body.detail]).toEqual([503, '/problems/backfills-off', expect.stringContaining('work folder')]);
  expect((await send(other, 'GET', backfills)).body).toEqual({ backfills: [], next_page_token: '' });
});

// The last one: from now on everybody needs a key.
test('one tenant sees, asks and reads nothing of another’s', async () => {
  const store = new KeyStore(redis);
  const key = async (tenant: string) => ({ authorization: `Bearer ${(await store.create({ tenant, name: undefined, scopes: ['backfills:write', 'predict:read'], expiresAt: undefined, limits: {} }, Date.now())).text}` });
  const [acme, other] = [await key('acme'), await key('other')];
  await until(async () => (await send(system, 'GET', backfills, undefined, other)).status === 200 && (await send(system, 'GET', backfills)).status === 401, 'the keys are known');
  const mine = { model: 'digits', input: { uri: at('in.csv', 'acme') }, output: { uri: at('out.csv', 'acme') } };
  expect([(await create(mine, other)).status, (await create(request(), other)).status]).toEqual([403, 403]);
  const { status, body } = await create(mine, acme);
  expect(status).toBe(201);
  expect((await send(system, 'GET', body.urls.get, undefined, acme)).status).toBe(200);
  for (const [method, url] of [['GET', body.urls.get], ['POST', body.urls.pause], ['POST', body.urls.cancel]]) {
    expect((await send(system, method, url, undefined, other)).status).toBe(404);
  }
  expect((await send(system, 'GET', backfills, undefined, other)).body.backfills).toEqual([]);
  expect((await send(system, 'GET', backfills, undefined, acme)).body.backfills.map(({ id }: Backfill) => id)).toEqual([body.id]);
});
