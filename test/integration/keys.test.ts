// Tenants, keys and what they may: on the routes that the running server has, whichever they are.
import { randomUUID } from 'node:crypto';
import { type ApiKey, newKeyText, scopes } from '@millrace/protocol';
import { BackfillStore, connect, KeyStore, type NewKey, type Redis } from '@millrace/queue';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type Answer, freePort, freeze, send, startApp, startTestSystem, type TestSystem, until, within } from './rig.ts';

interface Route {
  readonly method: string;
  readonly url: string;
  readonly scope?: string;
}

/** Runs in the API before it is built: https://fastify.dev/docs/latest/Reference/Hooks/ */
const atInitialization = (body: string) => `data:text/javascript,${encodeURIComponent(
  `import { subscribe } from 'node:diagnostics_channel'; subscribe('fastify.initialization', ({ fastify }) => { ${body} });`,
)}`;

const tellRoutes = atInitialization(`
  const routes = [];
  fastify.addHook('onRoute', (route) => { routes.push(route); });
  fastify.addHook('onReady', async () => {
    for (const { method, url, config } of routes) for (const one of [method].flat()) console.log(JSON.stringify({ msg: 'route', method: one, url, scope: config?.scope }));
  });`);

let system: TestSystem;
let redis: Redis;
let store: KeyStore;
/** Text of a key of tenant `a` that may do everything. */
let admin: string;

beforeAll(async () => {
  system = await startTestSystem({ privateRedis: true, apiNodeArgs: ['--import', tellRoutes], env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8', MILLRACE_BACKFILL_INPUTS: '/', MILLRACE_BACKFILL_OUTPUTS: '/' } });
  redis = connect({ redisUrl: system.redisAdminUrl as string }, 'worker', () => {});
  store = new KeyStore(redis);
});
afterAll(async () => {
  redis.disconnect();
  await system.stop();
});

const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
const predictions = '/api/v1/predictions';
const authorization = (text: string) => ({ authorization: `Bearer ${text}` });
const post = (text: string, body: unknown, headers = {}) => send(system, 'POST', predictions, body, { ...authorization(text), ...headers });

/** Makes a key of tenant `a` with all scopes, but for what is wanted otherwise, and waits until the API knows it. */
async function newKey(wanted: Partial<NewKey> = {}): Promise<{ key: ApiKey; text: string }> {
  const made = await store.create({ tenant: 'a', name: undefined, scopes, expiresAt: undefined, limits: {}, ...wanted }, Date.now());
  await until(async () => !String((await send(system, 'GET', '/metrics', undefined, authorization(made.text))).body?.detail).includes('none of the API keys'), 'the key is known');
  return made;
}

test('without any key everybody is one tenant; with the first one, within five seconds, nobody comes in without', async () => {
  const { body } = await send(system, 'POST', predictions, iris, { prefer: 'wait=30' });
  expect(body.status).toBe('succeeded');
  admin = (await newKey()).text;
  await until(async () => (await send(system, 'GET', '/api/v1/models')).status === 401, 'the door shuts');
  expect((await send(system, 'GET', body.urls.get, undefined, authorization(admin))).status).toBe(404);
  const ofDefault = await newKey({ tenant: 'default' });
  expect((await send(system, 'GET', body.urls.get, undefined, authorization(ofDefault.text))).status).toBe(200);
});

test('every route asks every caller for its scope, and lets in who has it', async () => {
  const { body: { id } } = await post(admin, iris, { prefer: 'wait=30' });
  const revoked = await newKey();
  await store.revoke(revoked.key.id, Date.now());
  await until(async () => (await send(system, 'GET', '/api/v1/models', undefined, authorization(revoked.text))).status === 401, 'the key is refused');
  const expired = await newKey({ expiresAt: Date.now() - 1 });
  const refused = { nothing: undefined, nonsense: 'nonsense', 'a stranger': newKeyText(), 'a mistyped key': admin.replace(/.$/, (last) => (last === '0' ? '1' : '0')), expired: expired.text, revoked: revoked.text };
  const allowed = await Promise.all(scopes.map(async (scope) => ({ scope, text: (await newKey({ scopes: [scope] })).text })));

  const routes = system.logs.filter(({ msg }) => msg === 'route') as unknown as Route[];
  expect(routes.length).toBeGreaterThan(15);
  for (const { method, url, scope: needed } of routes) {
    const where = url.replaceAll('::', ':').replace(/:id\b/, id).replace(/:name\b/, 'iris').replace(/:pool\b/, 'default').replace(/:code\b/, 'not-found').replace('*', 'index.html');
    const answer = async (text: string | undefined) => send(system, method, where, undefined, text === undefined ? {} : authorization(text));
    const seen: Record<string, number> = {};
    const expected: Record<string, number> = {};
    const note = (who: string, { status }: Answer, want: number) => {
      // Whoever comes in gets what the route says of a request that may be empty.
      seen[who] = [401, 403].includes(status) ? status : 0;
      expected[who] = needed === 'public' ? 0 : want;
    };
    for (const [who, text] of Object.entries(refused)) note(who, await answer(text), 401);
    for (const { scope, text } of allowed) note(scope, await answer(text), scope === needed ? 0 : 403);
    expect([method, url, needed, seen]).toEqual([method, url, expect.any(String), expected]);
  }
});

test('what is public is public on purpose, and documented like the rest', async () => {
  const routes = system.logs.filter(({ msg }) => msg === 'route') as unknown as Route[];
  const open = routes.filter(({ method, url, scope }) => scope === 'public' && method === 'GET' && !url.startsWith('/docs')).map(({ url }) => url);
  expect(open.toSorted()).toEqual(['/healthz', '/openapi.json', '/problems/:code', '/readyz']);
  const { paths } = (await send(system, 'GET', '/openapi.json')).body;
  const documented = routes.flatMap(({ method, url, scope }) => {
    const operation = paths[url.replaceAll(/(?<!:):(\w+)/g, '{$1}').replaceAll('::', ':')]?.[method.toLowerCase()];
    return operation ? [{ method, url, scope, security: operation.security }] : [];
  });
  expect(documented.length).toBeGreaterThan(5);
  expect(documented).toEqual(documented.map((route) => ({ ...route, security: route.scope === 'public' ? undefined : [{ apiKey: [route.scope] }] })));
});

test('a refusal says what is missing', async () => {
  const without = await send(system, 'GET', '/api/v1/models');
  expect(without.body).toMatchObject({ type: '/problems/unauthorized', status: 401 });
  expect(without.headers.get('www-authenticate')).toMatch(/^Bearer /);
  const { text } = await newKey({ scopes: ['models:read'] });
  expect((await post(text, iris)).body).toMatchObject({ type: '/problems/forbidden', detail: expect.stringContaining('predict:write') });
  expect((await send(system, 'GET', '/api/v1/models', undefined, { 'x-api-key': text })).status).toBe(200);
  expect((await send(system, 'GET', '/api/v1/models', undefined, { authorization: 'Basic bXJrOm1yaw==' })).status).toBe(401);
  expect((await send(system, 'GET', '/nowhere')).status).toBe(404);
});

test('every route that takes an id finds nothing of another tenant, and changes nothing', async () => {
  const [owner, stranger] = [authorization(admin), authorization((await newKey({ tenant: 'b' })).text)];
  const prediction = (await post(admin, iris, { prefer: 'wait=30' })).body;
  const endpoint = (await send(system, 'POST', '/api/v1/webhook-endpoints', { url: 'http://127.0.0.1:9/' }, owner)).body;
  const delivery = (await send(system, 'POST', `/api/v1/webhook-endpoints/${endpoint.id}/test`, undefined, owner)).body;
  await new BackfillStore(redis, 60).announce();
  const backfill = (await send(system, 'POST', '/api/v1/backfills', { model: 'iris', input: { uri: '/in.csv' }, output: { uri: '/out.csv' } }, owner)).body;
  const own: Record<string, string> = { 'predictions': prediction.id, 'backfills': backfill.id, 'webhook-endpoints': endpoint.id, 'deliveries': delivery.id };
  const bodies: Record<string, object> = { PATCH: { description: 'mine' }, recover: { since: '2026-01-01T00:00:00Z' } };

  const routes = (system.logs.filter(({ msg }) => msg === 'route') as unknown as Route[]).filter(({ url }) => /\/:id\b/.test(url));
  expect(routes.length).toBeGreaterThan(12);
  for (const { method, url } of routes) {
    const [, family = '', rest = ''] = /^\/api\/v1\/([\w-]+)\/:id(?:\/([\w/]+))?$/.exec(url) ?? [];
    expect(Object.keys(own)).toContain(family);
    const { status, headers } = await send(system, method, url.replace(':id', own[family] as string), bodies[method] ?? bodies[rest], stranger);
    expect([method, url, status, headers.get('content-type')]).toEqual([method, url, 404, 'application/problem+json']);
  }
  for (const list of ['backfills', 'webhook-endpoints', 'deliveries']) expect(Object.values((await send(system, 'GET', `/api/v1/${list}`, undefined, stranger)).body)[0]).toEqual([]);
  expect((await send(system, 'POST', '/api/v1/deliveries:redeliver', {}, stranger)).body.redelivered).toBe(0);

  expect((await send(system, 'GET', `/api/v1/backfills/${backfill.id}`, undefined, owner)).body).toEqual(backfill);
  const { secret, ...unchanged } = endpoint;
  expect((await send(system, 'GET', `/api/v1/webhook-endpoints/${endpoint.id}`, undefined, owner)).body).toEqual(unchanged);
  expect((await send(system, 'GET', `/api/v1/webhook-endpoints/${endpoint.id}/secret`, undefined, owner)).body.secret).toBe(secret);
  const secretOf = async (caller: Record<string, string>) => (await send(system, 'GET', '/api/v1/webhook-secret', undefined, caller)).body.secret as string;
  expect(await secretOf(owner)).not.toBe(await secretOf(stranger));
  expect((await send(system, 'DELETE', `/api/v1/webhook-endpoints/${endpoint.id}`, undefined, owner)).status).toBe(204);
});

test('predictions of another tenant are not there', async () => {
  const stranger = (await newKey({ tenant: 'b' })).text;
  const settled = (await post(admin, iris, { prefer: 'wait=30' })).body;
  const thaw = freeze(system.workers[0]?.pid);
  const pending = (await post(admin, iris)).body;
  for (const { urls } of [settled, pending]) {
    const answers = await Promise.all([
      send(system, 'GET', urls.get, undefined, authorization(stranger)),
      send(system, 'GET', `${urls.get}?wait=30`, undefined, authorization(stranger)),
      send(system, 'POST', urls.cancel, undefined, authorization(stranger)),
    ]);
    expect(answers.map(({ status, body }) => [status, body.type])).toEqual(Array.from({ length: 3 }, () => [404, '/problems/not-found']));
  }
  thaw();
  expect((await send(system, 'GET', `${pending.urls.get}?wait=30`, undefined, authorization(admin))).body.status).toBe('succeeded');
});

test('the rate of a key is exact over all API nodes, and what is refused takes nothing', async () => {
  const other = startApp('api', { REDIS_URL: system.redisUrl, MILLRACE_MODELS: system.models, MILLRACE_PORT: '0' });
  const ready = await until(() => other.logs.find(({ msg }) => msg === 'api is ready'), 'another API');
  const { text } = await newKey({ limits: { predictionsPerMinute: 10 } });
  const fields = ({ headers }: Answer) => [headers.get('ratelimit-policy'), headers.get('ratelimit')];
  const quota = (left: number) => ['"predictions";q=10;w=60', expect.stringMatching(`^"predictions";r=${left};t=\\d+$`)];
  const batch = (count: number) => send(system, 'POST', `${predictions}:batch`, { requests: Array.from({ length: count }, () => iris) }, authorization(text));

  expect(fields(await send(system, 'GET', '/api/v1/models', undefined, authorization(text)))).toEqual(quota(10));
  expect(await batch(4)).toMatchObject({ status: 202, body: { accepted: 4 } });
  const refused = await batch(7);
  expect([refused.status, refused.body.type, ...fields(refused)]).toEqual([429, '/problems/rate-limited', ...quota(6)]);
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);
  const never = await batch(11);
  expect([never.status, never.body.type, ...fields(never)]).toEqual([413, '/problems/payload-too-large', ...quota(6)]);

  await until(async () => (await fetch(`${String(ready['url'])}/api/v1/models`, { headers: authorization(text) })).status === 200, 'the other API knows the key');
  const many = await Promise.all(Array.from({ length: 30 }, async (_, index) =>
    (await send({ ...system, url: index % 2 ? system.url : String(ready['url']) }, 'POST', predictions, iris, authorization(text))).status));
  expect([202, 429].map((wanted) => many.filter((status) => status === wanted).length)).toEqual([6, 24]);
  expect(fields(await post(text, '{"model":'))).toEqual(quota(0));
});

test('a minute that is over gives everything back', async () => {
  const { key, text } = await newKey({ limits: { predictionsPerMinute: 1 } });
  expect((await post(text, iris)).status).toBe(202);
  expect((await post(text, iris)).status).toBe(429);
  await redis.pexpire(`millrace:rate:${key.id}`, 1);
  await until(async () => (await post(text, iris)).status === 202, 'the next minute');
});

test('a key may have so many requests in flight; one that ends or is left makes room', async () => {
  const { text } = await newKey({ limits: { requestsInFlight: 2 } });
  const thaw = freeze(system.workers[0]?.pid);
  const leaving = new AbortController();
  const left = fetch(system.url + predictions, { method: 'POST', headers: { 'content-type': 'application/json', prefer: 'wait=60', ...authorization(text) }, body: JSON.stringify(iris), signal: leaving.signal });
  const waiting = post(text, iris, { prefer: 'wait=60' });
  const third = () => send(system, 'GET', '/api/v1/models', undefined, authorization(text));
  const refused = await until(async () => {
    const answer = await third();
    return answer.status === 429 && answer;
  }, 'two are in flight');
  expect([refused.body.type, refused.headers.get('retry-after')]).toEqual(['/problems/rate-limited', '1']);
  expect((await send(system, 'GET', '/api/v1/models', undefined, authorization(admin))).status).toBe(200);
  leaving.abort();
  await expect(left).rejects.toThrow('aborted');
  await until(async () => (await third()).status === 200, 'there is room');
  thaw();
  expect((await waiting).body.status).toBe('succeeded');
});

test('a revoked key is refused within five seconds', async () => {
  const { key, text } = await newKey();
  expect((await post(text, iris)).status).toBe(202);
  await store.revoke(key.id, Date.now());
  const revokedAt = performance.now();
  let acceptedAt = revokedAt;
  const refused = await until(async () => {
    const askedAt = performance.now();
    const answer = await post(text, iris);
    if (answer.status === 202) acceptedAt = askedAt;
    return answer.status === 401 && answer;
  }, 'the revocation');
  expect(acceptedAt - revokedAt).toBeLessThan(5000);
  expect(refused.body.detail).toContain('revoked');
  expect((await store.list()).find(({ id }) => id === key.id)?.revokedAt).toBeGreaterThan(0);
});

test('keys that cannot be read again are not trusted for long', async () => {
  const thaw = freeze(system.redisPid);
  const refused = await until(async () => {
    const answer = await send(system, 'GET', '/api/v1/models', undefined, authorization(admin));
    return answer.status === 503 && answer;
  }, 'the keys are too old');
  expect(refused.body.type).toBe('/problems/queue-unavailable');
  expect((await send(system, 'GET', '/healthz')).status).toBe(200);
  thaw();
  await until(async () => (await send(system, 'GET', '/api/v1/models', undefined, authorization(admin))).status === 200, 'the keys are read again');
});

/** An empty Redis beside the system's. */
async function emptyStore(): Promise<{ url: string; redis: Redis }> {
  const other = await startTestSystem({ workers: 0, privateRedis: true });
  onTestFinished(() => other.stop());
  const own = connect({ redisUrl: other.redisAdminUrl as string }, 'worker', () => {});
  onTestFinished(() => own.disconnect());
  return { url: other.redisUrl, redis: own };
}

test('without a key the API opens no address that others can reach; with one it does, and stays shut when the keys are lost', async () => {
  const { url: redisUrl, redis: own } = await emptyStore();
  const port = await freePort();
  const env = { REDIS_URL: redisUrl, MILLRACE_MODELS: system.models, MILLRACE_HOST: '0.0.0.0', MILLRACE_PORT: String(port) };
  const early = startApp('api', env);
  expect(await within(60, early.ended, 'the end')).toEqual([1, null]);
  expect(JSON.stringify(early.logs)).toMatch(/does not listen on 0\.0\.0\.0[^"]*millrace keys create/);

  const { key, text } = await new KeyStore(own).create({ tenant: 'a', name: undefined, scopes, expiresAt: undefined, limits: {} }, Date.now());
  const { logs } = startApp('api', env);
  await until(() => logs.some(({ msg }) => msg === 'api is ready'), 'the API');
  const models = async (headers: Record<string, string>) => (await fetch(`http://127.0.0.1:${port}/api/v1/models`, { headers })).status;
  expect([await models({}), await models(authorization(text))]).toEqual([401, 200]);
  await own.hdel('millrace:keys', key.id);
  await until(async () => await models(authorization(text)) === 401, 'the key is lost');
  expect(await models({})).toBe(401);
});

test('a route that names no scope keeps the server from starting', async () => {
  const secretRoute = atInitialization(`fastify.register(async (inner) => { inner.get('/${randomUUID()}', () => 'open'); });`);
  const { ended, logs } = startApp('api', { REDIS_URL: system.redisUrl, MILLRACE_MODELS: system.models, MILLRACE_PORT: '0', NODE_OPTIONS: `--import ${secretRoute}` });
  expect(await within(60, ended, 'the end')).toEqual([1, null]);
  expect(JSON.stringify(logs)).toMatch(/routes that do not say which scope they need: GET \/[-0-9a-f]{36}/);
});
