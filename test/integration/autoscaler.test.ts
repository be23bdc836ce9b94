// The autoscaler and the workers that it supervises: real processes, real models, a real Redis.
import { cp } from 'node:fs/promises';
import path from 'node:path';
import type { Prediction } from '@millrace/protocol';
import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { descendants, lives } from './cli-rig.ts';
import { bundledModels, endOf, freeze, predict, send, startApp, startTestSystem, temporaryFolder, type TestOptions, type TestProcess, type TestSystem, until } from './rig.ts';

type Line = Record<string, unknown>;

const iris = [[5.1, 3.5, 1.4, 0.2]];
/** About 5 ms of one core. */
const heavy = { model: 'digits-deep', inputs: Array.from({ length: 8 }, () => Array.from({ length: 64 }, (_, index) => index % 17)) };
const pollSeconds = 0.5;
/** In a hurry, so that tests are. */
const hasty = { MILLRACE_POLL_SECONDS: String(pollSeconds), MILLRACE_TARGET_SECONDS: '0.5', MILLRACE_START_SECONDS: '1', MILLRACE_SCALE_IN_DELAY_SECONDS: '2', MILLRACE_IDLE_SECONDS: '2' };

/** A system that ends with its test. */
async function started({ env, ...options }: TestOptions): Promise<TestSystem> {
  const system = await startTestSystem({ env: { ...hasty, ...env }, ...options });
  onTestFinished(() => system.stop());
  return system;
}

/** An autoscaler beside a system that has none. */
function startAutoscaler({ redisUrl, models }: TestSystem, env: Record<string, string>): TestProcess {
  return startApp('autoscaler', { REDIS_URL: redisUrl, MILLRACE_MODELS: models, MILLRACE_METRICS_PORT: '0', ...hasty, ...env });
}

/** Queues heavy predictions in one batch; their ids. */
async function enqueue(system: TestSystem, count: number): Promise<string[]> {
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: count }, () => heavy) });
  return body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id);
}

async function endsOf(system: TestSystem, ids: readonly string[]): Promise<Prediction[]> {
  return Promise.all(ids.map((id) => endOf(system, id)));
}

const statuses = (predictions: readonly Prediction[]) => [...new Set(predictions.map(({ status }) => status))];
const linesOf = (logs: readonly Line[], msg: string) => logs.filter((line) => line['msg'] === msg);
const desiredOf = (logs: readonly Line[]) => linesOf(logs, 'fleet is scaled').map(({ desired }) => desired as number);
const readyPids = (logs: readonly Line[]) => linesOf(logs, 'worker is ready').map(({ pid }) => pid as number);
const timeOf = (line: Line | undefined) => Date.parse(String(line?.['ts']));

test('a burst at an empty pool starts workers, and when it is done they are stopped again', async () => {
  const system = await started({ workers: { least: 0, most: 2 } });
  await until(() => linesOf(system.logs, 'scales the pool').length > 0, 'the autoscaler');
  expect(desiredOf(system.logs)).toEqual([]);
  const burstAt = Date.now();
  const ends = await endsOf(system, await enqueue(system, 400));
  expect([ends.length, statuses(ends)]).toEqual([400, ['succeeded']]);
  await until(() => desiredOf(system.logs).at(-1) === 0 && readyPids(system.logs).filter(lives).length === 0, 'no worker is left');
  expect(Math.max(...desiredOf(system.logs))).toBe(2);

  const [order, ready] = ['fleet is scaled', 'worker is ready'].map((msg) => linesOf(system.logs, msg)[0]);
  const claimedAt = Math.min(...ends.map(({ started_at: at }) => Date.parse(String(at))));
  process.stdout.write(`first claim ${claimedAt - burstAt} ms after the burst: ordered after ${timeOf(order) - burstAt} ms (poll ${1000 * pollSeconds} ms), process start ${timeOf(ready) - timeOf(order)} ms\n`);
});

test('an autoscaler that has lost its pool to another one drains its workers under load, and nothing is lost', async () => {
  const system = await started({ workers: 1 });
  const { logs } = startAutoscaler(system, { MILLRACE_POOLS: 'default=2..2' });
  await until(() => readyPids(logs).length === 2, 'both workers');
  const ids = await enqueue(system, 300);
  await until(async () => (await endsOf(system, ids.slice(0, 1)))[0]?.status === 'succeeded', 'the first end');
  const redis = new Redis(system.redisAdminUrl as string);
  onTestFinished(() => { redis.disconnect(); });
  await redis.set('millrace:{default}:autoscaler', 'another one', 'PX', 60_000);
  await until(() => readyPids(logs).filter(lives).length === 0, 'both have gone');
  const ends = await endsOf(system, ids);
  expect([statuses(ends), Math.max(...ends.map(({ attempts }) => attempts))]).toEqual([['succeeded'], 1]);
  expect(linesOf(logs, 'another autoscaler scales the pool')).toHaveLength(1);
  expect(logs.filter(({ level, msg }) => level !== 'info' && msg !== 'Redis may lose what is accepted')).toEqual([]);
});

/** The one worker of a fleet of one, in the middle of predictions. */
async function busyWorker() {
  const system = await started({ workers: { least: 1, most: 1 } });
  await until(() => readyPids(system.logs).length === 1, 'the worker');
  const ids = await enqueue(system, 300);
  await until(async () => (await endsOf(system, ids.slice(0, 1)))[0]?.status === 'succeeded', 'the first end');
  return { system, ids, pid: readyPids(system.logs)[0] as number };
}

test('a worker that is killed is replaced, and what it had claimed is done', async () => {
  const { system, ids, pid } = await busyWorker();
  process.kill(pid, 'SIGKILL');
  expect(statuses(await endsOf(system, ids))).toEqual(['succeeded']);
  await until(() => readyPids(system.logs).length === 2, 'another worker');
  const metrics = await (await fetch(`${system.autoscalerUrl}/metrics`)).text();
  expect(metrics).toContain('millrace_worker_restarts_total{pool="default",service="autoscaler"} 1');
  expect(metrics).toContain('millrace_supervised_workers{pool="default",state="ready",service="autoscaler"} 1');
  expect(metrics).toContain('millrace_workers_desired{pool="default",service="autoscaler"} 1');
});

test('a worker that hangs is replaced, and what it had claimed is done', async () => {
  const { system, ids, pid } = await busyWorker();
  process.kill(pid, 'SIGSTOP');
  expect(statuses(await endsOf(system, ids))).toEqual(['succeeded']);
  expect(linesOf(system.logs, 'hangs, killing it').map(({ reason }) => reason)).toEqual(['not heard of for 15000 ms']);
  expect(readyPids(system.logs).map(lives)).toEqual([false, true]);
});

test('a worker that cannot start is tried less and less often, and serves as soon as it can', async () => {
  const system = await started({ workers: 0 });
  const models = path.join(await temporaryFolder(), 'models');
  const { logs } = startAutoscaler(system, { MILLRACE_MODELS: models, MILLRACE_POOLS: 'default=0..1' });
  const { body: { id } } = await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris });
  const again = () => linesOf(logs, 'ended unexpectedly, starting it again').map(({ delayMs }) => delayMs as number);
  await until(() => again().length >= 2, 'two tries');
  expect(again()[1]).toBeGreaterThanOrEqual(1000);
  expect(logs.some(({ err }) => JSON.stringify(err)?.includes('there is no such folder'))).toBe(true);
  await cp(bundledModels, models, { recursive: true });
  expect(statuses(await endsOf(system, [id]))).toEqual(['succeeded']);
  expect(desiredOf(logs)).toEqual([1]);
});

test('no worker outlives an autoscaler that is killed', async () => {
  const system = await started({ workers: 0 });
  const { child, logs, ended } = startAutoscaler(system, { MILLRACE_POOLS: 'default=2..2' });
  await until(() => readyPids(logs).length === 2, 'both workers');
  const pids = await descendants(child.pid as number);
  expect(pids).toEqual(expect.arrayContaining(readyPids(logs)));
  child.kill('SIGKILL');
  await ended;
  await until(() => pids.filter(lives).length === 0, 'they have ended');
});

test('one that is told to stop lets its workers end what they run, and hand back the rest', async () => {
  const system = await started({ workers: 0 });
  const { child, logs, ended } = startAutoscaler(system, { MILLRACE_POOLS: 'default=2..2' });
  await until(() => readyPids(logs).length === 2, 'both workers');
  const ids = await enqueue(system, 300);
  await until(async () => (await endsOf(system, ids.slice(0, 1)))[0]?.status === 'succeeded', 'the first end');
  child.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
  expect(readyPids(logs).filter(lives)).toEqual([]);
  expect(linesOf(logs, 'stopped').map(({ service }) => service)).toEqual(['worker', 'worker', 'autoscaler']);
  startAutoscaler(system, { MILLRACE_POOLS: 'default=1..1' });
  const ends = await endsOf(system, ids);
  expect([statuses(ends), Math.max(...ends.map(({ attempts }) => attempts))]).toEqual([['succeeded'], 1]);
});

test('of two autoscalers one acts, and when it is killed the other one does', async () => {
  const system = await started({ workers: 0 });
  const both = [1, 2].map(() => startAutoscaler(system, { MILLRACE_POOLS: 'default=1..1' }));
  await until(() => both.every(({ logs }) => linesOf(logs, 'autoscaler is ready').length > 0), 'both');
  const first = await until(() => both.find(({ logs }) => readyPids(logs).length > 0), 'a worker');
  const second = both.find((one) => one !== first) as TestProcess;
  expect((await predict(system, 'iris', iris)).body.status).toBe('succeeded');
  expect([linesOf(first.logs, 'scales the pool').length, linesOf(second.logs, 'scales the pool').length, readyPids(second.logs).length]).toEqual([1, 0, 0]);
  first.child.kill('SIGKILL');
  await until(() => readyPids(second.logs).length === 1, 'the other one has a worker');
  expect((await predict(system, 'iris', iris)).body.status).toBe('succeeded');
});

test('while Redis hangs no worker is stopped', async () => {
  const system = await started({ workers: { least: 1, most: 1 }, privateRedis: true });
  await until(() => readyPids(system.logs).length === 1, 'the worker');
  const thaw = freeze(system.redisPid);
  await until(() => linesOf(system.logs, 'pool cannot be scaled now').length > 0, 'the autoscaler sees nothing');
  thaw();
  await until(async () => (await predict(system, 'iris', iris)).body.status === 'succeeded', 'a prediction');
  expect(readyPids(system.logs)).toHaveLength(1);
  expect(readyPids(system.logs).filter(lives)).toHaveLength(1);
});
