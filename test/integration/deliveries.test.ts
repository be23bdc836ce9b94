// Deliveries: found by filters and pages, and sent again, one or all that are dead.
import { type Delivery, eventId, newBundleId } from '@millrace/protocol';
import { connect, DeliveryStore, type NewDelivery, type Redis, type Target } from '@millrace/queue';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { send, startTestSystem, type TestSystem } from './rig.ts';

const deliveries = '/api/v1/deliveries';
/** Nothing listens there. */
const url = 'http://127.0.0.1:9/hooks';
const hour = 3_600_000;
const now = Date.now();

let system: TestSystem;
let redis: Redis;
let store: DeliveryStore;
/** Registered endpoints, and the ids of what was to be delivered to them, and to others. */
const endpoints = { a: '', b: '' };
const dead: Record<'a' | 'b' | 'named' | 'queue', string[]> = { a: [], b: [], named: [], queue: [] };

beforeAll(async () => {
  system = await startTestSystem({ workers: 0, dispatcher: false, env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' } });
  redis = connect(system, 'worker', (error) => { throw error; });
  store = new DeliveryStore(redis, 86_400);
  for (const name of ['a', 'b'] as const) endpoints[name] = (await call('POST', '/api/v1/webhook-endpoints', { url })).body.id;
  dead.a = await addDead(30, { kind: 'webhook', url, endpointId: endpoints.a });
  dead.b = await addDead(10, { kind: 'webhook', url, endpointId: endpoints.b });
  dead.named = await addDead(5, { kind: 'webhook', url });
  dead.queue = await addDead(5, { kind: 'reply-queue', queue: 'mine' });
});
afterAll(async () => {
  redis.disconnect();
  await system.stop();
});

const call = (method: string, where: string, body?: unknown) => send(system, method, where, body);

/** So many deliveries to the target, each of a prediction of its own, a second apart; the last one at `until`. */
function deliveriesTo(target: Target, count: number, { until = now - hour, tenant = 'default', reason }: { until?: number; tenant?: string; reason?: string } = {}): NewDelivery[] {
  return Array.from({ length: count }, (_, index) => {
    const predictionId = `${newBundleId('default')}-${index % 64}`;
    const event = index % 2 ? 'prediction.completed' as const : 'prediction.failed' as const;
    return { tenant, predictionId, event, eventId: eventId(predictionId, event), target, at: until - 1000 * (count - 1 - index), body: '{}', ...(reason !== undefined && { reason }) };
  });
}

async function addDead(count: number, target: Target, more: { until?: number; tenant?: string } = {}): Promise<string[]> {
  return (await store.add(deliveriesTo(target, count, { reason: 'All attempts have failed', ...more }))).map(({ id }) => id);
}

async function list(query: Record<string, string | number> = {}): Promise<{ deliveries: Delivery[]; next_page_token: string }> {
  const parameters = new URLSearchParams(Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]));
  const { status, body } = await call('GET', `${deliveries}?${parameters.toString()}`);
  expect([status, body]).toEqual([200, expect.anything()]);
  return body;
}

async function listAll(query: Record<string, string | number>, betweenPages: () => Promise<unknown> = () => Promise.resolve()): Promise<Delivery[]> {
  const all: Delivery[] = [];
  let token = '';
  do {
    const page = await list({ ...query, page_token: token });
    all.push(...page.deliveries);
    token = page.next_page_token;
    await betweenPages();
  } while (token !== '');
  return all;
}

const idsOf = (listed: readonly { readonly id: string }[]) => listed.map(({ id }) => id);
const before = new Date(now - hour + 1).toISOString();

test('paging meets every delivery once, newest first, while new ones arrive', async () => {
  const listed = idsOf(await listAll({ page_size: 7, created_before: before }, () => addDead(1, { kind: 'webhook', url }, { until: now })));
  expect(listed.toSorted()).toEqual(Object.values(dead).flat().toSorted());
  expect(listed).toEqual(listed.toSorted().toReversed());
  expect((await list({ page_size: 0, created_before: before })).deliveries).toHaveLength(50);
});

test('filters narrow the list', async () => {
  const filtered = async (query: Record<string, string>) => idsOf(await listAll({ ...query, created_before: before })).toSorted();
  const all = await listAll({ created_before: before });
  expect(await filtered({ endpoint_id: endpoints.a })).toEqual(dead.a.toSorted());
  expect(await filtered({ endpoint_id: endpoints.b, status: 'dead' })).toEqual(dead.b.toSorted());
  expect(await filtered({ status: 'delivered' })).toEqual([]);
  expect(await filtered({ endpoint_id: 'ep_nobody' })).toEqual([]);
  expect(await filtered({ event: 'prediction.failed' })).toEqual(idsOf(all.filter(({ event }) => event === 'prediction.failed')).toSorted());
  const [one] = all as [Delivery];
  expect(await filtered({ prediction_id: String(one.prediction_id) })).toEqual([one.id]);
  const middle = all[20]?.created_at as string;
  expect(await filtered({ created_after: middle })).toEqual(idsOf(all.filter(({ created_at: at }) => at > middle)).toSorted());
  expect(idsOf(await listAll({ created_before: middle })).toSorted()).toEqual(idsOf(all.filter(({ created_at: at }) => at < middle)).toSorted());
});

test('what cannot be is refused', async () => {
  const { next_page_token: token } = await list({ status: 'dead', page_size: 1 });
  for (const query of [`page_token=${token}`, `status=dead&event=endpoint.test&page_token=${token}`, `status=dead&page_token=${token}x`, 'page_token=nonsense', 'page_size=-1', 'status=lost', 'event=prediction.lost', 'created_after=yesterday', 'order=oldest']) {
    const { status, body } = await call('GET', `${deliveries}?${query}`);
    expect([query, status, body.type]).toEqual([query, 400, '/problems/malformed-request']);
  }
  expect((await list({ status: 'dead', page_size: 7, page_token: token })).deliveries).toHaveLength(7);
});

test('a delivery is shown with its attempts', async () => {
  const [id = ''] = await addDead(1, { kind: 'webhook', url, endpointId: endpoints.a }, { until: now });
  const key = `millrace:{deliveries}:delivery:${id}`;
  const record = JSON.parse(await redis.hget(key, 'state') ?? '{}');
  const attempts = [{ at: now, durationMs: 12.3, status: 503, excerpt: 'busy' }, { at: now + 1000, durationMs: 5000, error: 'timed out while connecting' }];
  await redis.hset(key, 'state', JSON.stringify({ ...record, attempts }));
  expect((await call('GET', `${deliveries}/${id}`)).body).toEqual({
    id, object: 'delivery', status: 'dead', event_id: record.eventId, event: 'prediction.failed', prediction_id: record.predictionId, backfill_id: null, endpoint_id: endpoints.a, url, reply_queue: null,
    created_at: new Date(now).toISOString(), next_attempt_at: null, reason: 'All attempts have failed',
    attempts: [
      { at: new Date(now).toISOString(), duration_ms: 12.3, status_code: 503, error: null, response_excerpt: 'busy' },
      { at: new Date(now + 1000).toISOString(), duration_ms: 5000, status_code: null, error: 'timed out while connecting', response_excerpt: null },
    ],
  });
  expect((await call('GET', `${deliveries}/${dead.queue[0]}`)).body).toMatchObject({ url: null, endpoint_id: null, reply_queue: 'mine' });
  for (const nobody of ['dlv_00000000000000000000000000000000', 'nonsense']) expect((await call('GET', `${deliveries}/${nobody}`)).body).toMatchObject({ status: 404, type: '/problems/not-found' });
});

test('one that has ended is sent again, one that is under way is not', async () => {
  const [gaveUp = '', arrived = ''] = await addDead(2, { kind: 'webhook', url, endpointId: endpoints.a }, { until: now });
  const key = `millrace:{deliveries}:delivery:${arrived}`;
  await redis.hset(key, 'state', (await redis.hget(key, 'state') ?? '').replace('"dead"', '"delivered"'));
  for (const id of [gaveUp, arrived]) {
    const again = await call('POST', `${deliveries}/${id}/redeliver`);
    expect([again.status, again.body]).toEqual([202, expect.objectContaining({ id, status: 'pending', reason: null, next_attempt_at: expect.any(String) })]);
    expect((await call('POST', `${deliveries}/${id}/redeliver`)).body).toMatchObject({ status: 409, type: '/problems/not-redeliverable' });
    expect((await call('GET', `${deliveries}/${id}`)).body.status).toBe('pending');
  }
  expect(idsOf(await listAll({ status: 'dead' }))).not.toContain(gaveUp);
  expect((await call('POST', `${deliveries}/dlv_0/redeliver`)).status).toBe(404);
});

test('all dead ones are sent again, of one endpoint or since a time', async () => {
  const since = new Date(now - hour - 2500).toISOString();
  const recovered = await call('POST', `/api/v1/webhook-endpoints/${endpoints.a}/recover`, { since, until: before });
  expect([recovered.status, recovered.body]).toEqual([202, { redelivered: 3, complete: true, next_page_token: '' }]);
  expect((await call('POST', `${deliveries}:redeliver`, { endpoint_id: endpoints.a, until: before })).body.redelivered).toBe(27);
  expect((await call('POST', `${deliveries}:redeliver`, { endpoint_id: 'ep_nobody' })).body).toEqual({ redelivered: 0, complete: true, next_page_token: '' });
  expect((await call('POST', `${deliveries}:redeliver`, { since, until: before })).body.redelivered).toBe(9);
  expect((await call('POST', `${deliveries}:redeliver`, { until: before })).body.redelivered).toBe(11);
  expect(await listAll({ status: 'dead', created_before: before })).toEqual([]);
  expect(idsOf(await listAll({ status: 'pending', created_before: before })).toSorted()).toEqual(Object.values(dead).flat().toSorted());
});

test.each([[{ since: 'yesterday' }, '#/since'], [{ until: 5 }, '#/until'], [{ colour: 'red' }, '#/colour'], [{ page_token: 'nonsense' }, '#/page_token']])('%o redelivers nothing', async (body, pointer) => {
  const refused = await call('POST', `${deliveries}:redeliver`, body);
  expect([refused.status, refused.body.type, refused.body.errors]).toEqual([400, '/problems/malformed-request', [{ pointer, detail: expect.any(String) }]]);
});

test('one request takes on so many, and the next one goes on where it ended', async () => {
  const span = { since: new Date(now - 20 * hour).toISOString(), until: new Date(now - 2 * hour).toISOString() };
  const target = { kind: 'webhook', url, endpointId: endpoints.a } as const;
  await addDead(3, { ...target, endpointId: endpoints.b }, { until: now - 8 * hour });
  for (let chunk = 0; chunk < 25; chunk++) await addDead(500, target, { until: now - 2 * hour - 500_000 * (chunk + 1) });
  expect(idsOf((await list({ status: 'dead', created_before: span.until })).deliveries)).toHaveLength(50);

  const ask = async (body: object) => (await call('POST', `${deliveries}:redeliver`, { ...span, ...body })).body;
  const first = await ask({ endpoint_id: endpoints.b });
  expect(first).toEqual({ redelivered: 0, complete: false, next_page_token: expect.stringMatching(/^[\w-]+$/) });
  expect(await ask({ endpoint_id: endpoints.b, page_token: first.next_page_token })).toEqual({ redelivered: 3, complete: true, next_page_token: '' });
  const second = await ask({});
  expect([second.redelivered, second.complete]).toEqual([10_000, false]);
  expect(await ask({ page_token: second.next_page_token })).toEqual({ redelivered: 2500, complete: true, next_page_token: '' });
  expect((await call('POST', `${deliveries}:redeliver`, { page_token: second.next_page_token })).body.errors).toEqual([{ pointer: '#/page_token', detail: expect.any(String) }]);
});

test('deliveries of another tenant are not there', async () => {
  const [foreign = ''] = await addDead(3, { kind: 'webhook', url }, { tenant: 'other' });
  expect(idsOf(await listAll({ page_size: 1000 }))).not.toContain(foreign);
  expect((await call('GET', `${deliveries}/${foreign}`)).status).toBe(404);
  expect((await call('POST', `${deliveries}/${foreign}/redeliver`)).status).toBe(404);
  await call('POST', `${deliveries}:redeliver`, {});
  expect((await store.find(foreign, 'other'))?.status).toBe('dead');
});
