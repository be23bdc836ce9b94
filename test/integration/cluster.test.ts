// Redis Cluster: every pool on its node, and nothing lost when a node goes and comes back.
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { moved, type Prediction, unstarted } from '@millrace/protocol';
import { BackfillStore, connect } from '@millrace/queue';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { Bare } from './event-client.ts';
import { type RedisCluster, startCluster } from './redis-cluster.ts';
import { Receiver } from './receiver.ts';
import { bundledModels, endOf, freeze, predict, send, startTestSystem, startWorker, type TestSystem, until } from './rig.ts';

/** The slot of `{default}` is 5718, on the second of three nodes; that of `{far}` is 3845, on the first. */
const nodeOf = { default: 1, far: 0 } as const;
const heavy = Array.from({ length: 8 }, () => Array.from({ length: 64 }, (_, index) => index % 17));

let cluster: RedisCluster;
let system: TestSystem;
let models: string;

beforeAll(async () => {
  cluster = await startCluster();
  models = await mkdtemp(path.join(tmpdir(), 'millrace-models-'));
  for (const name of ['iris', 'digits', 'digits-deep']) {
    await cp(path.join(bundledModels, name), path.join(models, name), { recursive: true });
    await cp(path.join(bundledModels, name, '1'), path.join(models, `far-${name}`, '1'), { recursive: true });
    await writeFile(path.join(models, `far-${name}`, 'model.yaml'), 'pool: far\n');
  }
  system = await startTestSystem({ models, redisUrl: cluster.url, env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' } });
});
afterAll(async () => {
  await system.stop();
  await cluster.stop();
  await rm(models, { recursive: true, force: true });
});

const startFarWorker = () => startWorker(system, { MILLRACE_POOL: 'far' });

async function enqueue(model: string, count: number): Promise<string[]> {
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: count }, () => ({ model, inputs: heavy })) });
  expect(body).toMatchObject({ accepted: count });
  return body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id);
}

/** How many ended how. The cluster may not be whole again yet. */
async function statusesOf(ids: readonly string[]): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const id of ids) {
    const { status } = await endOf(system, id);
    counts[status] = (counts[status] ?? 0) + 1;
  }
  return counts;
}

test.each([['default', ''], ['far', 'far-']])('pool %s: waits, batches, large payloads and cancellations', async (pool, prefix) => {
  const pid = (pool === 'far' ? (await startFarWorker()).child : system.workers[0])?.pid as number;
  expect((await predict(system, `${prefix}iris`, [[5.1, 3.5, 1.4, 0.2]])).body).toMatchObject({ status: 'succeeded', outputs: { label: [0] } });

  const ids = await enqueue(`${prefix}digits-deep`, 50);
  expect(ids[0]).toMatch(new RegExp(`^${pool}-`));
  expect(await statusesOf(ids)).toEqual({ succeeded: 50 });

  const rows = Array.from({ length: 1000 }, (_, index) => Array.from({ length: 64 }, (_value, column) => (index + column) % 17));
  expect((await predict(system, `${prefix}digits`, rows)).body).toMatchObject({ status: 'succeeded' });

  const thaw = freeze(pid);
  const [id] = await enqueue(`${prefix}digits-deep`, 1);
  const waiting = send(system, 'GET', `/api/v1/predictions/${id}?wait=60`);
  const canceled = await send(system, 'POST', `/api/v1/predictions/${id}/cancel`);
  thaw();
  expect([canceled.status, canceled.body.status, (await waiting).body.status]).toEqual([200, 'canceled', 'canceled']);
});

test('webhooks, registered endpoints and reply queues of every pool', async () => {
  await startFarWorker();
  const receiver = await Receiver.start();
  onTestFinished(() => receiver.stop());
  const { body: endpoint } = await send(system, 'POST', '/api/v1/webhook-endpoints', { url: `${receiver.url}/all` });
  onTestFinished(async () => { await send(system, 'DELETE', `/api/v1/webhook-endpoints/${endpoint.id}`); });
  for (const model of ['iris', 'far-iris']) {
    const { body: { id } } = await predict(system, model, [[5.1, 3.5, 1.4, 0.2]], { webhook: { url: `${receiver.url}/mine` }, reply_queue: 'scores' });
    await until(() => receiver.of(id).length === 2, 'both webhooks');
    expect(new Set(receiver.of(id).map(({ path: where }) => where))).toEqual(new Set(['/all', '/mine']));
    const { body } = await until(async () => {
      const answer = await send(system, 'GET', `/api/v1/deliveries?prediction_id=${id}&status=delivered`);
      return answer.body.deliveries.length === 3 && answer;
    }, 'all three deliveries');
    expect(body.deliveries.map(({ reply_queue: queue }: { reply_queue: string | null }) => queue)).toContain('scores');
  }
});

test('event streams tell of the pools of all nodes, and of backfills', async () => {
  await startFarWorker();
  const tail = await Bare.open(`${system.url}/api/v1/events`);
  const [far] = await enqueue('far-digits-deep', 1) as [string];
  const one = await Bare.open(`${system.url}/api/v1/predictions/${far}/events`);
  const ids = [far, ...await enqueue('digits-deep', 1)];
  await until(() => tail.seen.length === ids.length, 'both ends');
  expect(new Set(tail.seen.map(({ data }) => data.data.id))).toEqual(new Set(ids));
  expect(tail.lastEventId).toMatch(/^(?:(?:default|far|backfills):[\d-]+,?){3}$/);
  await one.text();
  expect(one.seen.at(-1)).toMatchObject({ type: 'completed', data: { id: far } });

  // Nobody works on backfills here, so the test itself does.
  const receiver = await Receiver.start();
  const redis = connect(system, 'worker', () => {});
  onTestFinished(async () => { redis.disconnect(); await receiver.stop(); });
  const store = new BackfillStore(redis, 60);
  const model = { name: 'iris', version: 1, digest: 'd', pool: 'far', batched: true, signature: { inputs: [], outputs: [] }, labels: [] };
  const { id } = await store.create('default', { model, data: { input: { uri: '/in.csv' }, output: { uri: '/out.csv' } }, maxAttempts: 3, priority: 3, webhook: { url: receiver.url } }, Date.now());
  await (await store.hold(id))?.write(moved(unstarted, 'failed', { completedAt: Date.now() }));
  await until(() => receiver.of(id).length > 0 && tail.seen.some(({ type, data }) => type === 'backfill.failed' && data.data.id === id), 'the end of the backfill');
});

test('a node that is killed takes its pool with it until it is back; what was accepted is done', async () => {
  await startFarWorker();
  const ids = await enqueue('digits-deep', 200);
  await cluster.kill(nodeOf.default);
  const killedAt = Date.now();
  const refused = await send(system, 'POST', '/api/v1/predictions', { model: 'digits-deep', inputs: heavy });
  expect([refused.status, refused.body.type]).toEqual([503, '/problems/queue-unavailable']);
  expect(Date.now() - killedAt).toBeLessThan(20_000);
  expect((await predict(system, 'far-iris', [[5.1, 3.5, 1.4, 0.2]])).body.status).toBe('succeeded');

  await cluster.restart(nodeOf.default);
  expect(await statusesOf(ids)).toEqual({ succeeded: 200 });
  expect((await predict(system, 'iris', [[5.1, 3.5, 1.4, 0.2]])).body.status).toBe('succeeded');
});

test('when all nodes are killed and come back, API and workers find them', async () => {
  const pids = [system.api.pid, system.workers[0]?.pid];
  const ids = await enqueue('digits-deep', 100);
  const places = [...cluster.pids.keys()];
  await Promise.all(places.map((place) => cluster.kill(place)));
  expect((await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: [[1, 2, 3, 4]] })).status).toBe(503);
  await Promise.all(places.map((place) => cluster.restart(place)));
  expect(await statusesOf(ids)).toEqual({ succeeded: 100 });
  expect([system.api.pid, system.workers[0]?.pid]).toEqual(pids);
});

test('while every node hangs the API says so within its time, and goes on when they do', async () => {
  for (const pid of cluster.pids) process.kill(pid, 'SIGSTOP');
  onTestFinished(() => { for (const pid of cluster.pids) process.kill(pid, 'SIGCONT'); });
  const stoppedAt = Date.now();
  const answers = await Promise.all(['iris', 'far-iris'].map((model) => send(system, 'POST', '/api/v1/predictions', { model, inputs: [[1, 2, 3, 4]] })));
  for (const { status, body } of answers) expect([status, body.type]).toEqual([503, '/problems/queue-unavailable']);
  expect(Date.now() - stoppedAt).toBeLessThan(30_000);
  for (const pid of cluster.pids) process.kill(pid, 'SIGCONT');
  await until(async () => (await send(system, 'GET', '/readyz')).status === 200, 'the API is ready');
  await until(async () => (await predict(system, 'iris', [[5.1, 3.5, 1.4, 0.2]])).body.status === 'succeeded', 'a prediction');
});

test('a replica takes the place of a killed master: what was replicated is done, and new work is taken', async () => {
  const { child } = await startFarWorker();
  child.kill('SIGSTOP');
  const ids = await enqueue('far-digits-deep', 100);
  await cluster.replicated();
  await cluster.kill(nodeOf.far);
  child.kill('SIGCONT');
  expect(await statusesOf(ids)).toEqual({ succeeded: 100 });
  expect((await predict(system, 'far-iris', [[5.1, 3.5, 1.4, 0.2]])).body.status).toBe('succeeded');
});
