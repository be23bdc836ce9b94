// Deliveries are claimed as they are added, or when they are due: by one, until it has ended them or its lease is over.
import { eventId, newBundleId } from '@millrace/protocol';
import { connect, DeliveryStore, type NewDelivery, type Redis } from '@millrace/queue';
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

test('as many of the new ones are claimed as there is room for, and the others are due', async () => {
  const { host, deliveries } = deliveriesTo(5);
  const { fresh, claimed, dueHosts } = await store.addAndClaim(deliveries, () => 2);
  expect([fresh.length, claimed.length, [...dueHosts]]).toEqual([5, 2, [host]]);
  expect(claimed.map(({ body }) => body)).toEqual(['{"index":0}', '{"index":1}']);
  const later = await store.claim(host, 10);
  expect(later.map(({ body }) => body).toSorted()).toEqual(['{"index":2}', '{"index":3}', '{"index":4}']);
  await store.finish([...claimed, ...later].map((one) => ({ claimed: one, record: { ...one.record, status: 'delivered' } })));
  expect(await Promise.all(fresh.map(async ({ id }) => (await store.find(id, 'default'))?.status))).toEqual(Array.from({ length: 5 }, () => 'delivered'));
  expect(await store.dueHosts(0, 100)).not.toContain(host);
});

test('what was added before is not claimed again, nor what is asked for twice at once', async () => {
  const { host, deliveries } = deliveriesTo(3);
  const first = await store.addAndClaim([...deliveries, ...deliveries], () => 10);
  expect([first.fresh.length, first.claimed.length, first.dueHosts.size]).toEqual([3, 3, 0]);
  const second = await store.addAndClaim(deliveries, () => 10);
  expect([second.fresh.length, second.claimed.length, second.dueHosts.size]).toEqual([0, 0, 0]);
  expect(await store.claim(host, 10)).toEqual([]);
});

test('nothing is claimed for a host that is left alone', async () => {
  const { host, deliveries } = deliveriesTo(3);
  await store.hold(host, 60_000);
  const { fresh, claimed, dueHosts } = await store.addAndClaim(deliveries, () => 10);
  expect([fresh.length, claimed.length, [...dueHosts]]).toEqual([3, 0, [host]]);
  expect(await store.claim(host, 10)).toEqual([]);
  expect(await store.dueHosts(0, 100)).not.toContain(host);
});

test('what is dead from the start is kept and due to nobody', async () => {
  const { deliveries } = deliveriesTo(2);
  const { fresh, claimed, dueHosts } = await store.addAndClaim(deliveries.map((one) => ({ ...one, reason: 'The endpoint is disabled' })), () => 10);
  expect([fresh.map(({ status }) => status), claimed.length, dueHosts.size]).toEqual([['dead', 'dead'], 0, 0]);
});

test('ten thousand at once are taken on and claimed', async () => {
  const { host, deliveries } = deliveriesTo(10_000);
  const { fresh, claimed } = await store.addAndClaim(deliveries, () => 5000);
  expect([fresh.length, claimed.length]).toEqual([10_000, 5000]);
  expect(await store.claim(host, 2048)).toHaveLength(2048);
});
