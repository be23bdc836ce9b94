// The real processes over a real Redis, for tests: started once a file, ended with it.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { Prediction } from '@millrace/protocol';
import { onTestFinished } from 'vitest';
import { startSystem, type System, type SystemOptions } from '../../apps/cli/src/embedded/system.ts';
import { startTestRedis } from './redis-rig.ts';
import { until } from './until.ts';

export { freePort } from './free-port.ts';
export { until, within } from './until.ts';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const bundledModels = path.join(root, 'deploy/models');
export const fixtureModels = path.join(root, 'test/fixtures/models');

export interface TestOptions extends Partial<SystemOptions> {
  /** Never in a container: its process can be stopped and continued by `redisPid`. */
  readonly privateRedis?: boolean;
}

export interface TestSystem extends System {
  /** The model repository: where the options name none, one of this test's own, of the bundled models and the fixtures. */
  readonly models: string;
  /** Redis as the default user; undefined where the options name a Redis. */
  readonly redisAdminUrl: string | undefined;
  /** What API and workers have logged. */
  readonly logs: Record<string, unknown>[];
}

/** Starts Redis (in a container where a Docker engine answers, else a private one), the API and workers. */
export async function startTestSystem({ privateRedis = false, ...options }: TestOptions = {}): Promise<TestSystem> {
  const models = options.models ?? await mkdtemp(path.join(tmpdir(), 'millrace-models-'));
  if (!options.models) {
    await cp(bundledModels, models, { recursive: true, filter: (from) => !/\.(py|txt)$/.test(from) });
    await cp(fixtureModels, models, { recursive: true });
  }
  const redis = options.redisUrl ? undefined : await startTestRedis({ privately: privateRedis });
  const logs: Record<string, unknown>[] = [];
  const clear = async () => {
    await redis?.stop();
    if (!options.models) await rm(models, { recursive: true, force: true });
  };
  try {
    const system = await startSystem({
      redisServer: undefined, redisUrl: redis?.url, models, port: 0, workers: 1,
      onLog: (service, fields) => { logs.push({ service, ...fields }); },
      ...options,
      env: { MILLRACE_MODEL_SCAN_SECONDS: '0.2', ...options.env },
    });
    const stop = async () => {
      await system.stop();
      await clear();
    };
    return { ...system, redisPid: redis?.pid, redisAdminUrl: redis?.adminUrl, models, logs, stop };
  } catch (error) {
    await clear();
    throw error;
  }
}

export interface TestProcess {
  readonly child: ChildProcess;
  readonly logs: Record<string, unknown>[];
  /** Exit code and signal. */
  readonly ended: Promise<[number | null, NodeJS.Signals | null]>;
}

/** Starts an app that nobody restarts; it is killed when the test has ended. Lines that are no JSON are logged as `msg`. */
export function startApp(app: 'api' | 'autoscaler' | 'dispatcher' | 'worker', env: Record<string, string>): TestProcess {
  const child = spawn(process.execPath, [path.join(root, 'apps', app, 'src/main.ts')], { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  onTestFinished(() => { child.kill('SIGKILL'); });
  const logs: Record<string, unknown>[] = [];
  for (const input of [child.stdout, child.stderr]) {
    createInterface({ input }).on('line', (line) => { logs.push(line.startsWith('{') ? JSON.parse(line) : { msg: line }); });
  }
  return { child, logs, ended: once(child, 'close') as TestProcess['ended'] };
}

/** Stops a process until it is thawed, by the test's end at the latest: else nobody could end it. */
export function freeze(pid: number | undefined): () => void {
  process.kill(pid as number, 'SIGSTOP');
  const thaw = () => {
    try {
      process.kill(pid as number, 'SIGCONT');
    } catch { /* it has been killed */ }
  };
  onTestFinished(thaw);
  return thaw;
}

/** Starts a worker beside those of the system, and waits until it claims. */
export async function startWorker({ redisUrl, models }: TestSystem, env: Record<string, string> = {}): Promise<TestProcess & { readonly url: string }> {
  const worker = startApp('worker', { REDIS_URL: redisUrl, MILLRACE_MODELS: models, MILLRACE_METRICS_PORT: '0', ...env });
  const ready = await until(() => worker.logs.find(({ msg }) => msg === 'worker is ready'), 'the worker');
  return { ...worker, url: `http://127.0.0.1:${String(ready['metricsPort'])}` };
}

/** A folder that is removed when the test that asks for it has ended, or with `afterAll` when its file has. */
export async function temporaryFolder(atEnd: (remove: () => Promise<void>) => void = onTestFinished): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'millrace-test-'));
  atEnd(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // Tests look into answers freely; a wrong path fails the expectation.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any;
}

/** Sends a request to the API; a body that is no string is sent as JSON. An event stream is left once it has begun. */
export async function send({ url }: System, method: string, where: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
  const response = await fetch(url + where, {
    method,
    headers: { ...(body !== undefined && { 'content-type': 'application/json' }), ...headers },
    ...(body !== undefined && { body: typeof body === 'string' ? body : JSON.stringify(body) }),
  });
  const type = response.headers.get('content-type');
  // It need not end.
  if (type === 'text/event-stream') await response.body?.cancel();
  const text = type === 'text/event-stream' ? '' : await response.text();
  const json = type?.includes('json');
  return { status: response.status, headers: response.headers, body: json && text !== '' ? JSON.parse(text) : text };
}

/** Submits a prediction and waits for its end. */
export function predict(system: System, model: string, inputs: unknown, more: object = {}): Promise<Answer> {
  return send(system, 'POST', '/api/v1/predictions', { model, inputs, ...more }, { prefer: 'wait=30' });
}

/** Waits until a prediction has ended, whatever the API answers meanwhile. */
export function endOf(system: System, id: string): Promise<Prediction> {
  return until(async () => {
    const { status, body } = await send(system, 'GET', `/api/v1/predictions/${id}?wait=10`);
    return status === 200 && body.completed_at !== null && body as Prediction;
  }, `${id} to end`, 100);
}
