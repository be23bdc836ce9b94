// Webhooks end to end: from a prediction to a receiver that verifies what it gets.
import { newSecret } from '@millrace/delivery';
import { connect, DeliveryStore, type Endpoint, EndpointStore, type Redis } from '@millrace/queue';
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { Receiver, verify } from './receiver.ts';
import { freePort, freeze, predict, send, startTestSystem, type TestSystem, until } from './rig.ts';

const iris = [[5.1, 3.5, 1.4, 0.2]];
let system: TestSystem;
let receiver: Receiver;
let redis: Redis;
let endpoints: EndpointStore;
let deliveries: DeliveryStore;

beforeAll(async () => {
  system = await startTestSystem({ env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8', MILLRACE_WEBHOOK_RETRY_SECONDS: '0.2,0.4,3', MILLRACE_WEBHOOK_DISABLE_SECONDS: '60', MILLRACE_WEBHOOK_TIMEOUT_SECONDS: '5' } });
  redis = connect({ redisUrl: system.redisUrl }, 'worker', () => {});
  endpoints = new EndpointStore(redis);
  deliveries = new DeliveryStore(redis, 3600);
});

afterAll(async () => {
  redis.disconnect();
  await system.stop();
});

/** Each test has a receiver of its own: a host that fails is left alone. */
beforeEach(async () => {
  receiver = await Receiver.start();
});

afterEach(() => receiver.stop());

/** An endpoint for this path, removed by the test's end. */
async function endpointAt(path: string, more: Partial<Parameters<EndpointStore['create']>[0]> = {}) {
  const secret = newSecret();
  const endpoint = await endpoints.create({ tenant: 'default', url: receiver.url + path, description: '', events: ['prediction.completed'], payload: 'thin', ...more }, secret, { createdAt: Date.now(), most: 50 }) as Endpoint;
  onTestFinished(() => endpoints.remove(endpoint));
  return { ...endpoint, secret };
}

const at = (path: string) => receiver.received.filter((received) => received.path === path);
const deliveryOf = (id: string) => until(async () => (await deliveries.list({ tenant: 'default', matches: ({ predictionId }) => predictionId === id, limit: 1 })).deliveries[0], 'the delivery');

test('a registered endpoint is told of every end, signed and once', async () => {
  const { secret } = await endpointAt('/all', { events: ['prediction.completed', 'prediction.started'], payload: 'full' });
  const { body: prediction } = await predict(system, 'iris', iris);
  const got = await until(() => receiver.of(prediction.id).find(({ body }) => body.type === 'prediction.completed'), 'the webhook');
  verify(secret, got);
  expect(got.body).toMatchObject({ type: 'prediction.completed', data: { id: prediction.id, outputs: prediction.outputs } });
  const listed = await until(async () => (await deliveries.list({ tenant: 'default', matches: ({ eventId, status }) => eventId === got.id && status === 'delivered', limit: 10 })).deliveries[0], 'the record');
  expect(listed).toMatchObject({ predictionId: prediction.id, attempts: [{ status: 204 }] });
});

test('a receiver that fails is tried again, with the same id and a new time', async () => {
  const { secret } = await endpointAt('/fails-twice');
  receiver.answer = ({ path }) => (path === '/fails-twice' && at(path).length <= 2 ? 500 : 204);
  const { body: { id } } = await predict(system, 'iris', iris);
  const got = await until(() => at('/fails-twice').length === 3 && at('/fails-twice'), 'three attempts');
  expect(new Set(got.map((received) => received.id)).size).toBe(1);
  for (const received of got) verify(secret, received);
  const record = await until(async () => { const known = await deliveryOf(id); return known.status === 'delivered' && known; }, 'the record');
  expect(record.attempts.map(({ status }) => status)).toEqual([500, 500, 204]);
});

test('Retry-After is kept to, and after the last attempt the delivery is dead and can be sent again', async () => {
  await endpointAt('/never');
  receiver.answer = ({ path }, _count, response) => {
    if (path !== '/never') return 204;
    response.writeHead(503, { 'retry-after': '1' }).end('come back later');
    return 'answered';
  };
  const { body: { id } } = await predict(system, 'iris', iris);
  const dead = await until(async () => { const record = await deliveryOf(id); return record.status === 'dead' && record; }, 'its end');
  expect(dead).toMatchObject({ reason: 'All attempts have failed', attempts: Array.from({ length: 4 }, () => ({ status: 503, excerpt: 'come back later' })) });
  const [first, second] = dead.attempts as unknown as [{ at: number }, { at: number }];
  expect(second.at - first.at).toBeGreaterThanOrEqual(1000);
  receiver.answer = () => 204;
  expect(await deliveries.redeliver([dead])).toHaveLength(1);
  const again = await until(async () => { const record = await deliveryOf(id); return record.status === 'delivered' && record; }, 'the redelivery');
  expect(again.attempts).toHaveLength(5);
  expect(new Set(at('/never').map((received) => received.id)).size).toBe(1);
});

test('410 disables an endpoint, nothing but failures disables one too, and others are told', async () => {
  const { id: watcher } = await endpointAt('/watcher', { events: ['endpoint.disabled'] });
  const gone = await endpointAt('/gone');
  receiver.answer = ({ path }) => (path === '/gone' ? 410 : 204);
  await predict(system, 'iris', iris);
  const told = await until(() => at('/watcher').find(({ body }) => body.data.endpoint_id === gone.id), 'the event');
  expect(told.body).toMatchObject({ type: 'endpoint.disabled', data: { reason: 'gone', url: gone.url } });

  const failing = await endpointAt('/failing');
  await endpoints.changeHealth(failing, () => ({ failingSince: Date.now() - 100_000 }));
  receiver.answer = ({ path }) => (path === '/failing' ? 500 : 204);
  const { body: { id } } = await predict(system, 'iris', iris);
  await until(() => at('/watcher').find(({ body }) => body.data.endpoint_id === failing.id), 'the second event');
  // Told first, disabled then.
  const reason = await until(async () => (await endpoints.find(failing.id, 'default'))?.health.disabled?.reason, 'its end');
  expect(reason).toBe('failing');
  const dead = await until(async () => { const record = await deliveryOf(id); return record.status === 'dead' && record; }, 'its end');
  expect(dead.reason).toMatch(/disabled|failed/);

  // What happens while it is disabled is kept, and can be sent later.
  const { body: { id: later } } = await predict(system, 'iris', iris);
  expect(await deliveryOf(later)).toMatchObject({ status: 'dead', reason: 'The endpoint is disabled', attempts: [] });
  expect((await endpoints.find(watcher, 'default'))?.health).toEqual({});
});

test('a dispatcher that is killed in the middle of attempts loses none of them', async () => {
  const { secret } = await endpointAt('/killed');
  const held: (() => void)[] = [];
  receiver.answer = ({ path }, _count, response) => {
    if (path !== '/killed') return 204;
    if (held.length < 4) held.push(() => response.destroy());
    else response.writeHead(204).end();
    return 'answered';
  };
  const sent = await Promise.all(Array.from({ length: 40 }, () => predict(system, 'iris', iris)));
  await until(() => held.length === 4, 'attempts under way');
  process.kill(system.dispatcher?.pid as number, 'SIGKILL');
  for (const end of held) end();
  await until(() => sent.every(({ body: { id } }) => receiver.of(id).some(({ path }) => path === '/killed')), 'every webhook', 100);
  for (const received of at('/killed')) verify(secret, received);
  for (const { body: { id } } of sent) expect(new Set(receiver.of(id).map((received) => received.id)).size).toBe(1);
  await until(async () => (await deliveries.list({ tenant: 'default', matches: ({ status, target }) => status === 'pending' && target.kind === 'webhook' && target.url.endsWith('/killed'), limit: 50 })).deliveries.length === 0, 'all records', 100);
}, 200_000);

test('a host that does not answer delays nobody else', async () => {
  await endpointAt('/healthy');
  const silent = await Receiver.start();
  onTestFinished(() => silent.stop());
  silent.answer = () => 'answered';
  await endpoints.create({ tenant: 'default', url: `${silent.url}/silent`, description: '', events: ['prediction.completed'], payload: 'thin' }, newSecret(), { createdAt: Date.now(), most: 50 }).then((endpoint) => onTestFinished(() => endpoints.remove(endpoint as Endpoint)));
  const sent = await Promise.all(Array.from({ length: 60 }, () => predict(system, 'iris', iris)));
  await until(() => sent.every(({ body: { id } }) => receiver.of(id).some(({ path }) => path === '/healthy')), 'the healthy ones');
  expect(silent.received.length).toBeLessThanOrEqual(16);
});

const tenantSecret = async () => (await send(system, 'GET', '/api/v1/webhook-secret')).body.secret as string;
const pixels = [Array.from({ length: 64 }, () => 1)];

test('the webhook that a request names is told of every end, and of the start where that is asked for', async () => {
  const secret = await tenantSecret();
  const webhook = { url: `${receiver.url}/mine`, events: ['prediction.started', 'prediction.completed', 'prediction.failed', 'prediction.canceled', 'prediction.expired'] };
  const { body: completed } = await predict(system, 'iris', iris, { webhook });
  const { body: expired } = await predict(system, 'digits-deep', pixels, { webhook, deadline_ms: 1 });
  const { body: failed } = await predict(system, 'fails-on-negative', [[-1]], { webhook });
  const thaw = freeze(system.workers[0]?.pid);
  const { body: { id: canceled } } = await send(system, 'POST', '/api/v1/predictions', { model: 'digits-deep', inputs: pixels, webhook });
  const { status } = await send(system, 'POST', `/api/v1/predictions/${canceled}/cancel`);
  expect(status).toBe(200);
  thaw();
  const types = (id: string) => new Set(receiver.of(id).map(({ body }) => body.type));
  await until(() => types(completed.id).has('prediction.completed') && types(completed.id).has('prediction.started'), 'start and completion');
  await until(() => types(expired.id).has('prediction.expired'), 'the expiry');
  await until(() => types(failed.id).has('prediction.failed'), 'the failure');
  await until(() => types(canceled).has('prediction.canceled'), 'the cancellation');
  for (const received of receiver.received) verify(secret, received);
  const thin = receiver.of(completed.id).find(({ body }) => body.type === 'prediction.completed')?.body;
  const { outputs: _outputs, labels: _labels, ...summary } = completed;
  expect(thin).toEqual({ type: 'prediction.completed', timestamp: completed.completed_at, data: summary });
  expect(receiver.of(failed.id).find(({ body }) => body.type === 'prediction.failed')?.body.data.error).toEqual(failed.error);
});

test('outputs that are too long are left out of a full payload, and said to be', async () => {
  const webhook = { url: receiver.url, payload: 'full' };
  const { body: small } = await predict(system, 'iris', iris, { webhook });
  const { body: large } = await predict(system, 'iris', Array.from({ length: 2000 }, () => iris[0]), { webhook });
  const [of] = await until(() => receiver.of(small.id).length > 0 && receiver.of(small.id), 'the small one');
  expect(of?.body.data).toEqual(small);
  const [cut] = await until(() => receiver.of(large.id).length > 0 && receiver.of(large.id), 'the large one');
  expect(cut?.body.data).toEqual({ ...large, outputs: null, labels: null, outputs_truncated: true });
});

test('for a day after a rotation both secrets verify', async () => {
  const { body: endpoint } = await send(system, 'POST', '/api/v1/webhook-endpoints', { url: `${receiver.url}/rotated` });
  onTestFinished(async () => { await send(system, 'DELETE', `/api/v1/webhook-endpoints/${endpoint.id}`); });
  const { body: rotated } = await send(system, 'POST', `/api/v1/webhook-endpoints/${endpoint.id}/secret/rotate`);
  // The dispatcher hears of it within a second.
  const got = await until(async () => {
    await predict(system, 'iris', iris);
    return at('/rotated').find(({ headers }) => headers['webhook-signature']?.toString().split(' ').length === 2);
  }, 'a webhook with two signatures');
  for (const secret of [endpoint.secret, rotated.secret]) expect(() => verify(secret, got)).not.toThrow();
});

test('a test event arrives, and dead deliveries are recovered once the endpoint is enabled again', async () => {
  const { body: endpoint } = await send(system, 'POST', '/api/v1/webhook-endpoints', { url: `${receiver.url}/recovered` });
  onTestFinished(async () => { await send(system, 'DELETE', `/api/v1/webhook-endpoints/${endpoint.id}`); });
  const since = new Date().toISOString();
  expect((await send(system, 'POST', `/api/v1/webhook-endpoints/${endpoint.id}/test`)).status).toBe(202);
  await until(() => at('/recovered').some(({ body }) => body.type === 'endpoint.test'), 'the test event');
  await endpoints.changeHealth({ id: endpoint.id, tenant: 'default' }, () => ({ failingSince: 1, disabled: { at: Date.now(), reason: 'failing' } }));
  const { body: { id } } = await predict(system, 'iris', iris);
  await until(async () => (await send(system, 'GET', `/api/v1/deliveries?prediction_id=${id}&status=dead`)).body.deliveries.length === 1, 'the dead delivery');
  expect((await send(system, 'POST', `/api/v1/webhook-endpoints/${endpoint.id}/enable`)).body).toMatchObject({ enabled: true, failing_since: null });
  expect((await send(system, 'POST', `/api/v1/webhook-endpoints/${endpoint.id}/recover`, { since })).body).toMatchObject({ redelivered: 1, complete: true });
  await until(() => receiver.of(id).length === 1, 'the recovered webhook');
});

test('what may not be called is refused with its place, and a redirect is not followed', async () => {
  const { status, body } = await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris, webhook: { url: 'https://169.254.169.254/latest' } });
  expect({ status, pointer: body.errors[0].pointer }).toEqual({ status: 422, pointer: '#/webhook/url' });
  receiver.answer = (_received, _count, response) => {
    response.writeHead(302, { location: `${receiver.url}/elsewhere` }).end();
    return 'answered';
  };
  const { body: { id } } = await predict(system, 'iris', iris, { webhook: { url: `${receiver.url}/moved` } });
  const record = await until(async () => { const known = await deliveryOf(id); return known.status === 'dead' && known; }, 'its end');
  expect(record.attempts.map(({ status: of }) => of)).toEqual([302, 302, 302, 302]);
  expect(at('/elsewhere')).toEqual([]);
});

test('what waits for an endpoint goes to its new URL, whatever the old host is like', async () => {
  const nobody = `http://127.0.0.1:${await freePort()}/`;
  const { body: endpoint } = await send(system, 'POST', '/api/v1/webhook-endpoints', { url: nobody });
  onTestFinished(async () => { await send(system, 'DELETE', `/api/v1/webhook-endpoints/${endpoint.id}`); });
  const { body: { id } } = await predict(system, 'iris', iris);
  await until(async () => (await deliveryOf(id)).attempts.length > 0, 'a failed attempt');
  expect((await send(system, 'PATCH', `/api/v1/webhook-endpoints/${endpoint.id}`, { url: `${receiver.url}/new` })).status).toBe(200);
  await until(() => receiver.of(id).length === 1, 'the webhook at the new URL');
  const record = await until(async () => { const known = await deliveryOf(id); return known.status === 'delivered' && known; }, 'the record');
  expect(record.target).toMatchObject({ url: `${receiver.url}/new` });
});

test('deliveries that lead nowhere cost others at their host nothing', async () => {
  const { body: endpoint } = await send(system, 'POST', '/api/v1/webhook-endpoints', { url: `${receiver.url}/fails` });
  onTestFinished(async () => { await send(system, 'DELETE', `/api/v1/webhook-endpoints/${endpoint.id}`); });
  receiver.answer = ({ path }) => (path === '/fails' ? 500 : 204);
  const sent = await Promise.all(Array.from({ length: 12 }, () => predict(system, 'iris', iris)));
  await until(() => at('/fails').length >= 10, 'failures');
  await send(system, 'DELETE', `/api/v1/webhook-endpoints/${endpoint.id}`);
  const { body: { id } } = await predict(system, 'iris', iris, { webhook: { url: `${receiver.url}/other` } });
  // The host is left alone for 30 s; then one probe, whoever has it, opens the way.
  await until(() => receiver.of(id).length === 1, 'the other webhook', 60);
  expect(sent).toHaveLength(12);
});

test('who listens is told to the pools again, should that have been lost', async () => {
  await endpointAt('/told-again');
  await redis.hdel('millrace:{default}:listeners', 'default');
  await endpoints.retell();
  const { body: { id } } = await predict(system, 'iris', iris);
  expect((await until(() => receiver.of(id)[0], 'the webhook')).path).toBe('/told-again');
});
