// Whoever does not listen holds up nobody else, and gets what is theirs once they do.
import { connect as openSocket, type Socket } from 'node:net';
import type { Prediction } from '@millrace/protocol';
import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { freeze, predict, send, startTestSystem, type TestSystem, until } from './rig.ts';

const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };

async function started(): Promise<{ system: TestSystem; redis: Redis }> {
  const system = await startTestSystem({ privateRedis: true });
  onTestFinished(() => system.stop());
  const redis = new Redis(system.redisAdminUrl as string);
  onTestFinished(() => redis.disconnect());
  return { system, redis };
}

/** Asks on a connection of its own and never reads the answer. */
function askAndNeverRead(system: TestSystem, where: string): Socket {
  const { hostname, port, host } = new URL(system.url);
  const socket = openSocket(Number(port), hostname);
  onTestFinished(() => { socket.destroy(); });
  socket.pause();
  socket.write(`GET ${where} HTTP/1.1\r\nhost: ${host}\r\n\r\n`);
  return socket;
}

test('clients that ask for large results and never read them hold up nobody', async () => {
  const { system } = await started();
  const rows = 10_000;
  const data = Buffer.from(Float32Array.from({ length: 20 * rows }, (_, index) => Math.sin(index)).buffer).toString('base64');
  const large = await predict(system, 'dynamic-width', { dtype: 'float32', shape: [rows, 20], data });
  expect(large.body.outputs.y).toHaveLength(rows);
  for (const format of ['nested', 'base64']) {
    for (let count = 0; count < 20; count++) askAndNeverRead(system, `${large.body.urls.get}?format=${format}`);
  }
  const answers = await Promise.all(Array.from({ length: 200 }, () => predict(system, 'iris', iris.inputs)));
  expect(new Set(answers.map(({ body }) => body.status))).toEqual(new Set(['succeeded']));
  const again = await send(system, 'GET', large.body.urls.get);
  expect(again.body.outputs).toEqual(large.body.outputs);
});

test.each([
  ['emptied', (redis: Redis, stream: string) => redis.xtrim(stream, 'MAXLEN', 0)],
  ['gone', (redis: Redis, stream: string) => redis.del(stream)],
  ['filled by others beyond its length', async (redis: Redis, stream: string) => {
    const filling = redis.pipeline();
    for (let count = 0; count < 11_000; count++) filling.xadd(stream, 'MAXLEN', 10_000, '*', 'bundle', 'default-00', '0', '{}');
    await filling.exec();
  }],
] as const)('an API that hung while results came, and whose reply stream is %s, answers all who wait', async (_name, spoil) => {
  const { system, redis } = await started();
  const thawWorker = freeze(system.workers[0]?.pid);
  const waiting = [
    ...Array.from({ length: 5 }, () => send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: 1000 }, () => iris) }, { prefer: 'wait=60' })),
    ...Array.from({ length: 20 }, () => predict(system, 'iris', iris.inputs)),
  ];
  const rows = () => redis.hget('millrace:{default}:depth', 'online/iris@1/default');
  await until(async () => await rows() === '5020', 'all are queued');
  const thawApi = freeze(system.api.pid);
  thawWorker();
  await until(async () => await rows() === null, 'all are settled');
  const [stream] = await redis.keys('millrace:{default}:replies:*');
  await spoil(redis, stream as string);
  thawApi();

  const answers = await Promise.all(waiting);
  const ends: Prediction[] = answers.flatMap(({ body }) => (body.results ? body.results.map(({ prediction }: { prediction: Prediction }) => prediction) : [body]));
  expect(ends).toHaveLength(5020);
  expect(new Set(ends.map(({ status }) => status))).toEqual(new Set(['succeeded']));
  expect((await predict(system, 'iris', iris.inputs)).body.status).toBe('succeeded');
});
