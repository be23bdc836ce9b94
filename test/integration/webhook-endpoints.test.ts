// Who is told of results: registered endpoints, the secrets of a tenant, and what a prediction itself may name.
import type { Bundle } from '@millrace/protocol';
import { connect, type Redis } from '@millrace/queue';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Answer, send, startApp, startTestSystem, type TestSystem, until, within } from './rig.ts';

const endpoints = '/api/v1/webhook-endpoints';
/** Nothing listens there. */
const url = 'http://127.0.0.1:9/hooks';
const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };

let system: TestSystem;
let redis: Redis;
beforeAll(async () => {
  system = await startTestSystem({ workers: 0, dispatcher: false, env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8, ::1/128' } });
  redis = connect(system, 'worker', (error) => { throw error; });
});
afterAll(async () => {
  redis.disconnect();
  await system.stop();
});

const call = (method: string, where: string, body?: unknown) => send(system, method, where, body);

/** Registers an endpoint that is removed when the test has ended. */
async function register(more: object = {}): Promise<Answer['body']> {
  const { status, body } = await call('POST', endpoints, { url, ...more });
  expect([status, body.errors]).toEqual([201, undefined]);
  onTestFinished(async () => { await call('DELETE', `${endpoints}/${body.id}`); });
  return body;
}

test('an endpoint is registered, read, changed, disabled, enabled and removed', async () => {
  const { status, headers, body } = await call('POST', endpoints, { url, description: 'of the test' });
  const where = `${endpoints}/${body.id}`;
  onTestFinished(async () => { await call('DELETE', where); });
  expect([status, headers.get('location'), headers.get('cache-control')]).toEqual([201, where, 'no-store']);
  const { secret, ...made } = body;
  expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  expect(made).toEqual({
    id: expect.stringMatching(/^ep_[0-9a-f]{24}$/), object: 'webhook_endpoint', url, description: 'of the test', payload: 'thin',
    events: ['prediction.completed', 'prediction.failed', 'prediction.canceled', 'prediction.expired'],
    enabled: true, disabled_at: null, disabled_reason: null, failing_since: null, created_at: expect.any(String),
  });
  expect((await call('GET', where)).body).toEqual(made);
  expect((await call('GET', endpoints)).body).toEqual({ webhook_endpoints: [made] });

  const changed = await call('PATCH', where, { url: 'http://[::1]:9/', events: ['prediction.failed', 'endpoint.disabled'], payload: 'full' });
  expect([changed.status, changed.body]).toEqual([200, { ...made, url: 'http://[::1]:9/', events: ['prediction.failed', 'endpoint.disabled'], payload: 'full' }]);
  const disabled = await call('PATCH', where, { enabled: false });
  expect(disabled.body).toEqual({ ...changed.body, enabled: false, disabled_at: expect.any(String), disabled_reason: 'request' });
  expect((await call('PATCH', where, { enabled: false, description: '' })).body).toEqual({ ...disabled.body, description: '' });
  expect((await call('POST', `${where}/enable`)).body).toEqual({ ...changed.body, description: '' });
  expect((await call('GET', where)).body).toEqual({ ...changed.body, description: '' });

  expect(await call('DELETE', where)).toMatchObject({ status: 204, body: '' });
  expect((await call('GET', where)).status).toBe(404);
  expect((await call('GET', endpoints)).body).toEqual({ webhook_endpoints: [] });
});

test('who listens is known where predictions are settled', async () => {
  const heard = async () => redis.hget('millrace:{default}:listeners', 'default');
  await redis.sadd('millrace:pools', 'default');
  const one = await register();
  expect(await heard()).toBe('succeeded failed canceled expired');
  const other = await register({ events: ['prediction.started', 'prediction.failed'] });
  expect(await heard()).toBe('running succeeded failed canceled expired');
  await call('PATCH', `${endpoints}/${one.id}`, { enabled: false });
  expect(await heard()).toBe('running failed');
  await call('DELETE', `${endpoints}/${other.id}`);
  expect(await heard()).toBeNull();
  await call('POST', `${endpoints}/${one.id}/enable`);
  expect(await heard()).toBe('succeeded failed canceled expired');
});

test('many changes at once leave known who listens', async () => {
  await redis.sadd('millrace:pools', 'default');
  await Promise.all(Array.from({ length: 10 }, async () => {
    const { body: { id } } = await call('POST', endpoints, { url });
    await call('DELETE', `${endpoints}/${id}`);
  }));
  expect(await redis.hget('millrace:{default}:listeners', 'default')).toBeNull();
  await Promise.all(Array.from({ length: 10 }, () => register({ events: ['prediction.expired'] })));
  expect(await redis.hget('millrace:{default}:listeners', 'default')).toBe('expired');
});

test('a secret is rotated with a day in which both sign, and a change in between takes nothing away', async () => {
  const { id, secret } = await register();
  const where = `${endpoints}/${id}`;
  const shown = await call('GET', `${where}/secret`);
  expect([shown.body, shown.headers.get('cache-control')]).toEqual([{ secret, old_secret_expires_at: null }, 'no-store']);
  const before = Date.now();
  const [rotated] = await Promise.all([call('POST', `${where}/secret/rotate`), ...Array.from({ length: 10 }, (_, index) => call('PATCH', where, { description: String(index) }))]);
  expect(rotated.body).toEqual({ secret: expect.stringMatching(/^whsec_/), old_secret_expires_at: expect.any(String) });
  expect(rotated.body.secret).not.toBe(secret);
  const ends = Date.parse(rotated.body.old_secret_expires_at) - 86_400_000;
  expect(ends >= before && ends <= Date.now()).toBe(true);
  expect((await call('GET', `${where}/secret`)).body).toEqual(rotated.body);
  const kept = JSON.parse(await redis.hget('millrace:{deliveries}:endpoints:default', id) ?? '{}');
  expect(kept.secrets).toEqual({ current: rotated.body.secret, old: { secret, until: Date.parse(rotated.body.old_secret_expires_at) } });
});

test('a tenant has a secret for the webhooks that its requests name', async () => {
  const answers = await Promise.all(Array.from({ length: 5 }, () => call('GET', '/api/v1/webhook-secret')));
  const secrets = new Set(answers.map(({ body }) => body.secret as string));
  expect([...secrets]).toEqual([expect.stringMatching(/^whsec_[A-Za-z0-9+/]{43}=$/)]);
  const { body, headers } = await call('POST', '/api/v1/webhook-secret/rotate');
  expect([secrets.has(body.secret), headers.get('cache-control')]).toEqual([false, 'no-store']);
  expect(Date.parse(body.old_secret_expires_at)).toBeGreaterThan(Date.now() + 86_000_000);
  expect((await call('GET', '/api/v1/webhook-secret')).body).toEqual(body);
});

const faulty: [string, unknown, string[]][] = [
  ['nothing', {}, ['#/url']],
  ['no body', undefined, ['#']],
  ['a private target', { url: 'https://10.0.0.1/' }, ['#/url']],
  ['a target of another spelling', { url: 'https://0xa9fea9fe/' }, ['#/url']],
  ['a user in the URL', { url: 'https://me@example.com/' }, ['#/url']],
  ['a URL that is too long', { url: `https://example.com/${'a'.repeat(2048)}` }, ['#/url']],
  ['everything wrong', { url: 'ftp://10.0.0.1/', events: ['prediction.lost'], payload: 'fat', colour: 'red' }, ['#/colour', '#/events/0', '#/payload', '#/url']],
  ['a test as an event', { url, events: ['endpoint.test'] }, ['#/events/0']],
  ['no events', { url, events: [] }, ['#/events']],
  ['a secret of its own', { url, secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' }, ['#/secret']],
  ['a tenant', { url, tenant: 'other' }, ['#/tenant']],
];

test.each(faulty)('an endpoint with %s is refused, each fault with its place', async (_name, body, pointers) => {
  const refused = await call('POST', endpoints, body);
  expect([refused.status, refused.body.type, refused.body.errors.map(({ pointer }: { pointer: string }) => pointer).toSorted()]).toEqual([422, '/problems/invalid-webhook', pointers]);
});

test('a change is checked like a new one', async () => {
  const { id } = await register();
  for (const [body, pointer, detail] of [
    [{ url: 'http://192.168.1.1/' }, '#/url', /not public/], [{ url: '' }, '#/url', /fewer than 1/], [{}, '#', /fewer than 1/], [{ enabled: true }, '#/enabled', /must be false/],
    [{ id: 'ep_other' }, '#/id', /unknown/], [[], '#', /object/],
  ] as const) {
    const refused = await call('PATCH', `${endpoints}/${id}`, body);
    expect([body, refused.status, refused.body.type, refused.body.errors]).toEqual([body, 422, '/problems/invalid-webhook', [{ pointer, detail: expect.stringMatching(detail) }]]);
  }
  expect((await call('GET', `${endpoints}/${id}`)).body).toMatchObject({ url, enabled: true });
});

test('a tenant may have fifty, however many it asks for at once', async () => {
  const answers = await Promise.all(Array.from({ length: 60 }, () => call('POST', endpoints, { url })));
  const made = answers.filter(({ status }) => status === 201);
  onTestFinished(async () => { await Promise.all(made.map(({ body }) => call('DELETE', `${endpoints}/${body.id}`))); });
  expect(made).toHaveLength(50);
  const [refused] = answers.filter(({ status }) => status !== 201);
  expect(refused?.body).toMatchObject({ status: 422, type: '/problems/invalid-webhook', errors: [{ pointer: '#', detail: expect.stringContaining('50') }] });
});

test('a test event is a delivery, each of its own', async () => {
  const { id } = await register();
  await call('PATCH', `${endpoints}/${id}`, { enabled: false });
  const [one, other] = [await call('POST', `${endpoints}/${id}/test`), await call('POST', `${endpoints}/${id}/test`)];
  expect([one.status, one.headers.get('location')]).toEqual([202, `/api/v1/deliveries/${one.body.id}`]);
  expect(one.body).toEqual({
    id: expect.stringMatching(/^dlv_[0-9a-f]{32}$/), object: 'delivery', status: 'pending', event: 'endpoint.test', event_id: expect.stringMatching(/^evt_[\w-]+$/),
    prediction_id: null, backfill_id: null, endpoint_id: id, url, reply_queue: null, created_at: expect.any(String), next_attempt_at: expect.any(String), reason: null, attempts: [],
  });
  expect(other.body.event_id).not.toBe(one.body.event_id);
  expect(JSON.parse(await redis.hget(`millrace:{deliveries}:delivery:${one.body.id}`, 'body') ?? '')).toEqual({ type: 'endpoint.test', timestamp: one.body.created_at, data: { endpoint_id: id, url } });
  expect((await call('GET', `/api/v1/deliveries/${one.body.id}`)).body).toMatchObject({ id: one.body.id, event: 'endpoint.test' });
});

test('an id that leads nowhere is a 404 everywhere', async () => {
  for (const [method, path, body] of [['GET', ''], ['PATCH', '', { url }], ['PATCH', '', { nonsense: 1 }], ['DELETE', ''], ['POST', '/enable'], ['POST', '/test'], ['POST', '/recover', { since: '2026-01-01T00:00:00Z' }], ['GET', '/secret'], ['POST', '/secret/rotate']] as const) {
    const answer = await call(method, `${endpoints}/ep_nobody${path}`, body);
    expect([method, path, answer.status, answer.body.type]).toEqual([method, path, 404, '/problems/not-found']);
  }
});

/** What waits to be run. */
async function queuedPrediction(id: string): Promise<Bundle['predictions'][number]> {
  const [, bundleId, index] = /^(.+)-(\d+)$/.exec(id) ?? [];
  const bundle = JSON.parse(await redis.hget(`millrace:{default}:online:${bundleId}`, 'data') ?? '{}') as Bundle;
  return bundle.predictions[Number(index)] ?? null;
}

test('a prediction takes along whom it names, and nothing where it names nobody', async () => {
  const webhook = { url, events: ['prediction.started', 'prediction.completed'], payload: 'full' };
  for (const [named, notify] of [
    [{}, undefined],
    [{ webhook: { url } }, { webhook: { url } }],
    [{ webhook, reply_queue: 'my.results_1' }, { webhook, replyQueue: 'my.results_1' }],
    [{ reply_queue: 'results' }, { replyQueue: 'results' }],
  ] as const) {
    const { status, body } = await call('POST', '/api/v1/predictions', { ...iris, ...named });
    expect([status, (await queuedPrediction(body.id))?.notify]).toEqual([202, notify]);
  }
});

test('a target that may not be called is one fault among the others of its prediction', async () => {
  const { status, body } = await call('POST', '/api/v1/predictions', { model: 'iris', inputs: [[1]], priority: 9, webhook: { url: 'https://169.254.169.254/latest', colour: 'red' }, reply_queue: 'a b' });
  const at = (pointer: string) => ({ pointer, detail: expect.any(String) as string });
  expect([status, body.type]).toEqual([422, '/problems/invalid-prediction']);
  expect(body.errors.toSorted((a: { pointer: string }, b: { pointer: string }) => (a.pointer < b.pointer ? -1 : 1)))
    .toEqual([at('#/inputs'), at('#/priority'), at('#/reply_queue'), at('#/webhook/colour'), { pointer: '#/webhook/url', detail: expect.stringContaining('not public') }]);
  const batch = await call('POST', '/api/v1/predictions:batch', { requests: [iris, { ...iris, webhook: { url } }, { ...iris, webhook: null }, { ...iris, webhook: { url: 'https://[::ffff:10.0.0.1]/' } }, { model: 'nope', inputs: 1, webhook: { url: 'https://10.1.2.3/' } }] });
  const refused = batch.body.results.flatMap(({ error }: { error?: { type: string; errors: { pointer: string }[] } }) => (error ? [[error.type, ...error.errors.map(({ pointer }) => pointer)]] : []));
  expect(refused).toEqual([
    ['/problems/invalid-prediction', '#/requests/2/webhook'],
    ['/problems/invalid-prediction', '#/requests/3/webhook/url'],
    ['/problems/unknown-model', '#/requests/4/webhook/url', '#/requests/4/model'],
  ]);
  expect(batch.body.accepted).toBe(2);
});

test('without allowed networks nothing but https to public addresses may be named', async () => {
  const strict = await startTestSystem({ workers: 0, dispatcher: false });
  onTestFinished(() => strict.stop());
  for (const target of [url, 'https://127.0.0.1/', 'https://[::1]/', 'https://localhost/', 'http://example.com/', 'https://example.com:8080/']) {
    const endpoint = await send(strict, 'POST', endpoints, { url: target });
    const prediction = await send(strict, 'POST', '/api/v1/predictions', { ...iris, webhook: { url: target } });
    expect([target, endpoint.status, endpoint.body.errors?.[0].pointer, prediction.status, prediction.body.errors?.[0].pointer]).toEqual([target, 422, '#/url', 422, '#/webhook/url']);
  }
});

test('networks that are none end the start, and the message says what a network is', async () => {
  const { ended, logs } = startApp('api', { REDIS_URL: system.redisUrl, MILLRACE_MODELS: system.models, MILLRACE_PORT: '0', MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8,10/8' });
  expect(await within(20, ended, 'the end')).toEqual([1, null]);
  expect(JSON.stringify(logs)).toMatch(/allowed network must be in CIDR notation[^}]*10\/8/);
  await until(() => logs.some(({ level }) => level === 'fatal'), 'the last line', 1);
});
