// Deliveries are written once, and claimed when they are due: by one, until it has ended them or its lease is over.
import { eventId, newBundleId } from '@millrace/protocol';
import { connect, DeliveryStore, type Lease, type NewDelivery, type Redis, type UnwrittenDelivery, unwrittenOf } from '@millrace/queue';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startTestRedis, type TestRedis } from './redis-rig.ts';

let server: TestRedis;
let redis: Redis;
let store: DeliveryStore;

beforeAll(async () => {
  server = await startTestRedis({ privately: false });
  redis = connect({ redisUrl: server.url }, 'worker', (error) => { throw error; });
  store = new DeliveryStore(redis, 3600);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

let hosts = 0;
/** A host of the test's own, and so many deliveries to it. */
function deliveriesTo(count: number): { host: string; deliveries: NewDelivery[] } {
  const host = `https://${++hosts}.example.com`;
  const deliveries = Array.from({ length: count }, (_, index) => {
    const predictionId = `${newBundleId('default')}-${index % 64}`;
    const event = 'prediction.completed' as const;
    return { tenant: 'default', predictionId, event, eventId: eventId(predictionId, event), target: { kind: 'webhook' as const, url: `${host}/hooks` }, at: Date.now(), body: `{"index":${index}}` };
  });
  return { host, deliveries };
}

test('what is being tried is leased, what is not is due, and what was tried is kept as it ended', async () => {
  const { host, deliveries } = deliveriesTo(5);
  const [running, due, delivered, dead, late] = deliveries.map(unwrittenOf) as [UnwrittenDelivery, UnwrittenDelivery, UnwrittenDelivery, UnwrittenDelivery, UnwrittenDelivery];
  const written = await store.write([
    { ...running, running: true },
    due,
    { ...delivered, record: { ...delivered.record, status: 'delivered' } },
    { ...dead, record: { ...dead.record, status: 'dead', reason: 'Gone' } },
    { ...late, waitMs: 60_000 },
  ]);
  expect(written.size).toBe(5);
  expect((await store.claim(host, 10)).map(({ record }) => record.id)).toEqual([due.record.id]);
  const { deliveries: kept } = await store.list({ tenant: 'default', limit: 5, matches: ({ id }) => written.has(id) });
  expect(Object.fromEntries(kept.map(({ id, status }) => [id, status]))).toEqual({
    [running.record.id]: 'pending', [due.record.id]: 'pending', [delivered.record.id]: 'delivered', [dead.record.id]: 'dead', [late.record.id]: 'pending',
  });

  const lease = written.get(running.record.id);
  await store.finish([{ claimed: { ...running, host, ...lease as Lease }, record: { ...running.record, status: 'delivered' } }]);
  expect((await store.find(running.record.id, 'default'))?.status).toBe('delivered');
});

test('what was written before is not written again, nor what is there twice', async () => {
  const { host, deliveries } = deliveriesTo(3);
  const tried = deliveries.map((one): UnwrittenDelivery => ({ ...unwrittenOf(one), running: true }));
  expect((await store.write([...tried, ...tried])).size).toBe(3);
  expect((await store.write(tried)).size).toBe(0);
  expect(await store.add(deliveries)).toEqual([]);
  expect(await store.claim(host, 10)).toEqual([]);
});

test('nothing is claimed for a host that is left alone', async () => {
  const { host, deliveries } = deliveriesTo(3);
  await store.hold(host, 60_000);
  expect(await store.add(deliveries)).toHaveLength(3);
  expect(await store.claim(host, 10)).toEqual([]);
  expect(await store.dueHosts(0, 100)).not.toContain(host);
});

test('what is dead from the start is kept and due to nobody', async () => {
  const { host, deliveries } = deliveriesTo(2);
  const added = await store.add(deliveries.map((one) => ({ ...one, reason: 'The endpoint is disabled' })));
  expect(added.map(({ status }) => status)).toEqual(['dead', 'dead']);
  expect(await store.claim(host, 10)).toEqual([]);
});

test('ten thousand at once are taken on, and claimed', async () => {
  const { host, deliveries } = deliveriesTo(10_000);
  expect(await store.add(deliveries)).toHaveLength(10_000);
  expect(await store.claim(host, 2048)).toHaveLength(2048);
});
