// The online path, measured in rounds: in each round everything is measured once, so that drift of the machine's speed
// touches all alike. Medians over the rounds.
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { startSystem, type System } from '../../apps/cli/src/embedded/system.ts';
import { TaskProcess } from './children.ts';
import { percentile, round } from './figures.ts';
import { type LoadResult, runLoad } from './load.ts';
import { commandCalls, readMetrics, type Sums } from './observe.ts';

export interface OnlineFigures {
  readonly noop_rps: number;
  readonly per_job_rps: number;
  readonly sync_rps: number;
  readonly async_rps: number;
  readonly mean_bundle: number;
  readonly mean_micro_batch_rows: number;
  readonly redis_commands_per_prediction: number;
  readonly latency_p50_ms: number;
  readonly latency_p99_ms: number;
  readonly bare_chain_p50_ms: number;
  readonly heavy_rows_per_second: number;
  readonly heavy_bare_rows_per_second: number;
  readonly lost: number;
  readonly doubled: number;
}

export interface OnlineOptions {
  readonly quick: boolean;
  readonly redisServer: string | undefined;
  /** Path of the load tool. */
  readonly wrk: string;
  readonly show: (text: string) => void;
}

const connections = 256;
const models = fileURLToPath(new URL('../../deploy/models', import.meta.url));
const noopRoute = fileURLToPath(new URL('noop-route.ts', import.meta.url));
const iris = JSON.stringify({ model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] });
const pixels = Array.from({ length: 64 }, (_, index) => index % 17);
const heavy = JSON.stringify({ model: 'digits-deep', inputs: [pixels] });
const wait = 'wait=60';

/** Seconds of each measurement; requests of the bare chain. */
function extent(quick: boolean) {
  return quick
    ? { rounds: 2, warmUp: 6, noop: 2, sync: 3, async: 2, perJob: 1, latencyTurns: 1, chain: 500, heavy: 2, bare: 1 }
    : { rounds: 5, warmUp: 20, noop: 5, sync: 6, async: 5, perJob: 4, latencyTurns: 4, chain: 1000, heavy: 5, bare: 4 };
}

interface Rig {
  readonly system: System;
  readonly perJob: System;
  readonly redis: Redis;
  readonly wrk: string;
  readonly chainWorker: TaskProcess<never, never>;
  readonly chainClient: TaskProcess<number, number[]>;
  readonly bareSession: TaskProcess<number, { batch: number; rowsPerSecond: number }>;
}

export async function online({ quick, redisServer, wrk, show }: OnlineOptions): Promise<OnlineFigures> {
  const rig = await setUp(redisServer, wrk);
  try {
    const amount = extent(quick);
    const scale = new Scale(rig);
    show(`Online path, ${amount.rounds} rounds, ${connections} connections, Node ${process.version}\n`);
    await scale.warmUp(amount.warmUp);
    for (let round = 0; round < amount.rounds; round++) {
      await scale.round(amount);
      show(`  round ${round + 1}: ${scale.lastRound()}\n`);
    }
    const figures = await scale.figures();
    show(table(figures, scale.bareBatch));
    return figures;
  } finally {
    await tearDown(rig);
  }
}

/** The real processes; a second API that sends one job per prediction shares Redis and worker with the first. */
async function setUp(redisServer: string | undefined, wrk: string): Promise<Rig> {
  const common = { models, port: 0, onLog: (service: string, fields: Record<string, unknown>) => { if (['warn', 'error', 'fatal'].includes(String(fields['level']))) console.error(service, fields); } };
  const system = await startSystem({ ...common, redisServer, workers: 1, env: { MILLRACE_LOG_LEVEL: 'info' }, apiNodeArgs: ['--import', noopRoute] });
  const perJob = await startSystem({
    ...common, redisServer: undefined, redisUrl: system.redisUrl, workers: 0, env: { MILLRACE_BUNDLE_PREDICTIONS: '1', MILLRACE_ADDS_IN_FLIGHT: '256' },
  });
  const [chainWorker, chainClient, bareSession] = await Promise.all([
    TaskProcess.start<never, never>('bare-chain.ts', ['worker', system.redisUrl]),
    TaskProcess.start<number, number[]>('bare-chain.ts', ['client', system.redisUrl]),
    TaskProcess.start<number, { batch: number; rowsPerSecond: number }>('bare-session.ts', [`${models}/digits-deep/1/model.onnx`, 'image']),
  ]);
  return { system, perJob, redis: new Redis(system.redisUrl), wrk, chainWorker, chainClient, bareSession };
}

async function tearDown({ system, perJob, redis, chainWorker, chainClient, bareSession }: Rig): Promise<void> {
  for (const child of [chainWorker, chainClient, bareSession]) child.stop();
  redis.disconnect();
  await perJob.stop();
  await system.stop();
}

type Series = 'noop_rps' | 'per_job_rps' | 'sync_rps' | 'async_rps' | 'mean_bundle' | 'mean_micro_batch_rows' | 'redis_commands_per_prediction'
  | 'latency_p50_ms' | 'latency_p99_ms' | 'bare_chain_p50_ms' | 'heavy_rows_per_second' | 'heavy_bare_rows_per_second';

/** Takes the measurements and counts what came of every accepted prediction. */
class Scale {
  readonly #rig: Rig;
  readonly #series = new Map<Series, number[]>();
  readonly #accepted = new Set<string>();
  #repeatedIds = 0;
  #badAnswers = 0;
  #start: Sums | undefined;
  bareBatch = 0;

  constructor(rig: Rig) {
    this.#rig = rig;
  }

  async warmUp(seconds: number): Promise<void> {
    const { system, perJob, chainClient } = this.#rig;
    this.#start = await readMetrics([system, perJob]);
    // The optimizing compiler needs more than 100,000 predictions to be done with the real path.
    await this.#noop(2);
    await this.#predict(system, { body: iris, prefer: wait, seconds });
    await this.#predict(perJob, { body: iris, prefer: wait, seconds: 2 });
    await this.#predict(system, { body: heavy, prefer: wait, seconds: 1 });
    await chainClient.do(200);
  }

  async round(extents: ReturnType<typeof extent>): Promise<void> {
    const { system, perJob, chainClient, bareSession } = this.#rig;
    const noop = await this.#noop(extents.noop);
    this.#note('noop_rps', noop.good / noop.seconds);

    await this.#observed(async () => {
      const sync = await this.#predict(system, { body: iris, prefer: wait, seconds: extents.sync });
      this.#note('sync_rps', sync.good / sync.seconds);
    });

    const startedAt = performance.now();
    const async = await this.#predict(system, { body: iris, seconds: extents.async });
    await this.#untilSettled();
    this.#note('async_rps', async.good / ((performance.now() - startedAt) / 1000));

    const single = await this.#predict(perJob, { body: iris, prefer: wait, seconds: extents.perJob });
    this.#note('per_job_rps', single.good / single.seconds);

    for (let turn = 0; turn < extents.latencyTurns; turn++) {
      const one = await this.#predict(system, { body: iris, prefer: wait, seconds: 1, connections: 1 });
      this.#note('latency_p50_ms', one.p50Ms);
      this.#note('latency_p99_ms', one.p99Ms);
      this.#note('bare_chain_p50_ms', percentile(await chainClient.do(extents.chain), 0.5));
    }

    const bare = await bareSession.do(1000 * extents.bare);
    this.bareBatch = bare.batch;
    this.#note('heavy_bare_rows_per_second', bare.rowsPerSecond);
    const rows = await this.#predict(system, { body: heavy, prefer: wait, seconds: extents.heavy });
    this.#note('heavy_rows_per_second', rows.good / rows.seconds);
  }

  lastRound(): string {
    const last = (name: Series) => this.#series.get(name)?.at(-1) ?? NaN;
    return `noop ${last('noop_rps').toFixed(0)}/s, sync ${last('sync_rps').toFixed(0)}/s, async ${last('async_rps').toFixed(0)}/s, per job ${last('per_job_rps').toFixed(0)}/s, heavy ${last('heavy_rows_per_second').toFixed(0)} rows/s`;
  }

  async figures(): Promise<OnlineFigures> {
    await this.#untilSettled();
    const { system, perJob } = this.#rig;
    const end = await readMetrics([system, perJob]);
    const grown = (name: keyof Sums) => end[name] - (this.#start?.[name] ?? 0);
    const medians = Object.fromEntries([...this.#series].map(([name, values]) => [name, round(percentile(values, 0.5))])) as Record<Series, number>;
    return {
      ...medians,
      // Answers that were not the result, results that are not in Redis, and what was queued but never settled.
      lost: this.#badAnswers + await this.#withoutResult() + Math.max(0, grown('bundledPredictions') - grown('settled')),
      // One row a prediction: more rows run or more results written than predictions queued.
      doubled: this.#repeatedIds + Math.max(0, grown('rows') - grown('bundledPredictions')) + Math.max(0, grown('settled') - grown('bundledPredictions')),
    };
  }

  /** Reads what Redis and the processes counted while the action ran. */
  async #observed(action: () => Promise<void>): Promise<void> {
    const { system, redis } = this.#rig;
    const [before, callsBefore] = [await readMetrics([system]), await commandCalls(redis)];
    await action();
    await this.#untilSettled();
    const [after, callsAfter] = [await readMetrics([system]), await commandCalls(redis)];
    const predictions = after.bundledPredictions - before.bundledPredictions;
    this.#note('mean_bundle', predictions / (after.bundles - before.bundles));
    this.#note('mean_micro_batch_rows', (after.rows - before.rows) / (after.microBatches - before.microBatches));
    this.#note('redis_commands_per_prediction', (callsAfter - callsBefore) / predictions);
  }

  async #predict({ url }: System, load: { body: string; prefer?: string; seconds: number; connections?: number }): Promise<LoadResult> {
    const expect = load.prefer ? '"status":"succeeded"' : '"status":"queued"';
    const result = await runLoad(this.#rig.wrk, { connections, ...load, url: `${url}/api/v1/predictions`, expect, ids: !load.prefer });
    if (result.bad > 0) console.error(`${result.bad} bad answers, the first: ${result.firstBad}`);
    this.#badAnswers += result.bad;
    for (const id of result.ids) {
      if (this.#accepted.has(id)) this.#repeatedIds++;
      this.#accepted.add(id);
    }
    return result;
  }

  #noop(seconds: number): Promise<LoadResult> {
    return runLoad(this.#rig.wrk, { url: `${this.#rig.system.url}/noop`, body: iris, expect: 'ok', connections, seconds });
  }

  /** Every accepted row is counted in the depth until its result is written. */
  async #untilSettled(): Promise<void> {
    const deadline = Date.now() + 60_000;
    while (await this.#rig.redis.exists('millrace:{default}:depth') > 0) {
      if (Date.now() > deadline) throw new Error('the queue does not empty');
      await new Promise((resolve) => { setTimeout(resolve, 5); });
    }
  }

  /** Accepted predictions whose result is not in Redis. */
  async #withoutResult(): Promise<number> {
    const ids = [...this.#accepted];
    let missing = 0;
    for (let at = 0; at < ids.length; at += 10_000) {
      const pipeline = this.#rig.redis.pipeline();
      for (const id of ids.slice(at, at + 10_000)) {
        const cut = id.lastIndexOf('-');
        pipeline.hexists(`millrace:{default}:results:${id.slice(0, cut)}`, id.slice(cut + 1));
      }
      missing += (await pipeline.exec() ?? []).filter(([, present]) => present !== 1).length;
    }
    return missing;
  }

  #note(name: Series, value: number): void {
    const values = this.#series.get(name);
    if (values) values.push(value);
    else this.#series.set(name, [value]);
  }
}

function table(figures: OnlineFigures, bareBatch: number): string {
  const row = (name: string, value: string, ratio = '') => `  ${name.padEnd(52)} ${value.padStart(12)}  ${ratio}\n`;
  const times = (a: number, b: number) => `${(a / b).toFixed(2)} ×`;
  const { noop_rps: noop, sync_rps: sync } = figures;
  return `\n${[
    row('no-op POST on the same server, /s', noop.toFixed(0)),
    row('predictions/s, each waits for its result', sync.toFixed(0), `${times(sync, noop)} no-op`),
    row('predictions/s, to the last result', figures.async_rps.toFixed(0)),
    row('predictions/s, one job per prediction', figures.per_job_rps.toFixed(0), `sync is ${times(sync, figures.per_job_rps)} that`),
    row('predictions in a bundle, mean', figures.mean_bundle.toFixed(1)),
    row('rows in a micro-batch, mean', figures.mean_micro_batch_rows.toFixed(1)),
    row('Redis commands per prediction, in scripts too', figures.redis_commands_per_prediction.toFixed(2)),
    row('latency at one connection, p50 ms', figures.latency_p50_ms.toFixed(2), `${times(figures.latency_p50_ms, figures.bare_chain_p50_ms)} the bare chain`),
    row('latency at one connection, p99 ms', figures.latency_p99_ms.toFixed(2)),
    row('bare chain (add, claim, reply), p50 ms', figures.bare_chain_p50_ms.toFixed(2)),
    row('heavy model through Millrace, rows/s', figures.heavy_rows_per_second.toFixed(0), `${times(figures.heavy_rows_per_second, figures.heavy_bare_rows_per_second)} bare`),
    row(`heavy model, bare session.run of ${bareBatch} rows, rows/s`, figures.heavy_bare_rows_per_second.toFixed(0)),
    row('lost', String(figures.lost)),
    row('doubled', String(figures.doubled)),
  ].join('')}\n`;
}
