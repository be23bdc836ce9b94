// Results as jobs in the user's own queue, consumed by BullMQ's clients for Node and Python.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { predict, root, send, startTestSystem, temporaryFolder, type TestSystem, until } from './rig.ts';

const iris = [[5.1, 3.5, 1.4, 0.2]];
const prefix = 'millrace:replies:{default}';
let system: TestSystem;

beforeAll(async () => { system = await startTestSystem(); });
afterAll(() => system.stop());

interface Taken {
  readonly id: string | undefined;
  readonly name: string;
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly data: any;
}

/** A consumer of the queue; what it has taken. */
function consume(queue: string): Taken[] {
  const connection = new Redis(system.redisAdminUrl as string, { maxRetriesPerRequest: null });
  const taken: Taken[] = [];
  const worker = new Worker(queue, async ({ id, name, data }) => { taken.push({ id, name, data }); }, { connection, prefix });
  onTestFinished(async () => {
    await worker.close();
    connection.disconnect();
  });
  return taken;
}

test('each result is one job, whatever its end', async () => {
  const taken = consume('scores');
  const { body: whole } = await predict(system, 'iris', iris, { reply_queue: 'scores', metadata: { row: '7' } });
  const { body: expired } = await predict(system, 'digits-deep', [Array.from({ length: 64 }, () => 1)], { reply_queue: 'scores', deadline_ms: 1 });
  await until(() => taken.length === 2, 'two jobs');
  const job = taken.find(({ data }) => data.data.id === whole.id) as Taken;
  expect(job).toEqual({
    id: `evt_${whole.id}_completed`, name: 'prediction.completed',
    data: { version: 1, id: job.id, type: 'prediction.completed', timestamp: whole.completed_at, data: whole },
  });
  const ended = await send(system, 'GET', `/api/v1/predictions/${expired.id}`);
  expect(taken.find(({ data }) => data.data.id === expired.id)?.data.data).toEqual(ended.body);
});

test('long integers keep their digits', async () => {
  const { body: { id } } = await send(system, 'POST', '/api/v1/predictions', '{"model":"int64-double","inputs":[[9007199254740993,-9223372036854775808]],"reply_queue":"digits"}');
  const redis = new Redis(system.redisAdminUrl as string);
  onTestFinished(() => redis.disconnect());
  const text = await until(async () => await redis.hget(`${prefix}:digits:evt_${id}_completed`, 'data') ?? undefined, 'the job');
  expect(text).toContain('[[9007199254740993,-9223372036854775808]]');
});

test('a name that is none is refused with its place', async () => {
  const { status, body } = await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris, reply_queue: 'a:b' });
  expect({ status, pointer: body.errors[0].pointer }).toEqual({ status: 422, pointer: '#/reply_queue' });
});

test('a canceled prediction is a job too, and a queue that nobody reads keeps its jobs', async () => {
  const { body: { id } } = await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris, reply_queue: 'later' });
  await send(system, 'POST', `/api/v1/predictions/${id}/cancel`);
  const redis = new Redis(system.redisAdminUrl as string);
  onTestFinished(() => redis.disconnect());
  await until(async () => await redis.llen(`${prefix}:later:wait`) === 1, 'the job');
  const taken = consume('later');
  await until(() => taken.length === 1, 'the job at its consumer');
  expect(taken[0]?.data.data.id).toBe(id);
});

describe.runIf(hasPip())('with the Python client', () => {
  let packages: string;

  beforeAll(async () => {
    packages = await temporaryFolder(afterAll);
    execFileSync('python3', ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--root-user-action=ignore', '--target', packages, 'bullmq==3.4.4'], { stdio: 'ignore' });
  });

  test('results arrive as dictionaries', async () => {
    const sent = await Promise.all(Array.from({ length: 20 }, () => predict(system, 'iris', iris, { reply_queue: 'python' })));
    const child = spawn('python3', [path.join(root, 'test/fixtures/consume.py'), system.redisAdminUrl as string, prefix, 'python', '20'], {
      env: { ...process.env, PYTHONPATH: packages }, stdio: ['ignore', 'pipe', 'inherit'],
    });
    onTestFinished(() => { child.kill('SIGKILL'); });
    const lines: Taken[] = [];
    createInterface({ input: child.stdout }).on('line', (line) => { lines.push(JSON.parse(line)); });
    expect(await once(child, 'close')).toEqual([0, null]);
    const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
    expect(lines.map(({ data }) => data.data).toSorted(byId)).toEqual(sent.map(({ body }) => body).toSorted(byId));
  });
});

function hasPip(): boolean {
  try {
    execFileSync('python3', ['-m', 'pip', '--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
