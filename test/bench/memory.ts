// What a long queue costs in memory: bytes of Redis per queued prediction, and whether API and worker stay as large as
// they are with a short one. Through the real HTTP API, in batches, while the worker is stopped; then the worker drains it.
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { startSystem, type System } from '../../apps/cli/src/embedded/system.ts';
import { readMetrics } from './observe.ts';

export interface MemoryFigures {
  readonly queued_small: number;
  readonly queued_large: number;
  /** Without the tensors' own bytes. */
  readonly redis_bytes_per_queued_prediction: number;
  readonly redis_bytes_per_result: number;
  readonly api_rss_mib_small: number;
  readonly api_rss_mib_large: number;
  readonly worker_rss_mib_small: number;
  readonly worker_rss_mib_large: number;
  readonly queued_per_second: number;
  readonly drained_per_second: number;
  readonly lost: number;
  readonly doubled: number;
}

export interface MemoryOptions {
  readonly quick: boolean;
  readonly redisServer: string | undefined;
  readonly show: (text: string) => void;
}

const models = fileURLToPath(new URL('../../deploy/models', import.meta.url));
const batch = 1000;
const connections = 8;
/** One row of four float32. */
const tensorBytes = 16;
const body = JSON.stringify({ requests: Array.from({ length: batch }, () => ({ model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] })) });
const mebibyte = 2 ** 20;
const sampleMs = 100;

/** Heaps grow while they are new, however short the queue is. */
const warmUp = 100_000;

export async function memory({ quick, redisServer, show }: MemoryOptions): Promise<MemoryFigures> {
  const [small, large] = [10_000, quick ? 100_000 : 1_000_000];
  const system = await startSystem({
    redisServer, models, port: 0, workers: 1,
    onLog: (service, fields) => { if (['warn', 'error', 'fatal'].includes(String(fields['level']))) console.error(service, fields); },
  });
  const redis = new Redis(system.redisUrl);
  try {
    show(`Memory of a queue, Node ${process.version}\n`);
    await fillAndDrain(system, redis, warmUp);
    const short = await fillAndDrain(system, redis, small);
    const long = await fillAndDrain(system, redis, large);
    const figures: MemoryFigures = {
      queued_small: small,
      queued_large: large,
      redis_bytes_per_queued_prediction: round(long.redisBytesQueued / large - tensorBytes),
      redis_bytes_per_result: round(long.redisBytesSettled / large),
      api_rss_mib_small: round(short.apiRss / mebibyte),
      api_rss_mib_large: round(long.apiRss / mebibyte),
      worker_rss_mib_small: round(short.workerRss / mebibyte),
      worker_rss_mib_large: round(long.workerRss / mebibyte),
      queued_per_second: round(large / long.fillSeconds),
      drained_per_second: round(large / long.drainSeconds),
      lost: Math.max(0, large - long.settled),
      doubled: Math.max(0, long.settled - large),
    };
    show(table(figures));
    return figures;
  } finally {
    redis.disconnect();
    await system.stop();
  }
}

interface Round {
  readonly redisBytesQueued: number;
  readonly redisBytesSettled: number;
  /** The most while it was filled and drained. */
  readonly apiRss: number;
  readonly workerRss: number;
  readonly fillSeconds: number;
  readonly drainSeconds: number;
  readonly settled: number;
}

async function fillAndDrain(system: System, redis: Redis, predictions: number): Promise<Round> {
  const worker = system.workers[0]?.pid as number;
  const before = await usedMemory(redis);
  const settledBefore = (await readMetrics([system])).settled;
  process.kill(worker, 'SIGSTOP');
  const filled = await whileSampling([system.url], () => fill(system, predictions));
  const redisBytesQueued = await usedMemory(redis) - before;
  process.kill(worker, 'SIGCONT');
  const drained = await whileSampling([system.url, system.workerUrls[0] as string], () => untilDrained(redis));
  return {
    redisBytesQueued,
    redisBytesSettled: await usedMemory(redis) - before,
    apiRss: Math.max(filled.rss[0] ?? 0, drained.rss[0] ?? 0),
    workerRss: drained.rss[1] ?? 0,
    fillSeconds: filled.seconds,
    drainSeconds: drained.seconds,
    settled: (await readMetrics([system])).settled - settledBefore,
  };
}

async function fill({ url }: System, predictions: number): Promise<void> {
  const turns = Array.from({ length: predictions / batch }).values();
  await Promise.all(Array.from({ length: connections }, async () => {
    for (const _ of turns) {
      const response = await fetch(`${url}/api/v1/predictions:batch`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
      const text = await response.text();
      if (!text.startsWith(`{"accepted":${batch},`)) throw new Error(`not all were accepted: ${text.slice(0, 500)}`);
    }
  }));
}

async function untilDrained(redis: Redis): Promise<void> {
  const deadline = Date.now() + 300_000;
  while (await redis.exists('millrace:{default}:depth') > 0) {
    if (Date.now() > deadline) throw new Error('the queue does not empty');
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

/** Runs the action; the most resident memory of each process meanwhile, bytes. */
async function whileSampling(urls: readonly string[], action: () => Promise<void>): Promise<{ rss: readonly number[]; seconds: number }> {
  const rss = urls.map(() => 0);
  const startedAt = performance.now();
  const over = new AbortController();
  const done = action().finally(() => over.abort());
  const sample = async () => {
    for (const [place, url] of urls.entries()) rss[place] = Math.max(rss[place] ?? 0, await residentBytes(url));
  };
  do {
    await sample();
    await new Promise((resolve) => { setTimeout(resolve, sampleMs); });
  } while (!over.signal.aborted);
  await done;
  const seconds = (performance.now() - startedAt) / 1000;
  await sample();
  return { rss, seconds };
}

async function residentBytes(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^process_resident_memory_bytes\S* (\d+)/m.exec(text)?.[1]);
}

async function usedMemory(redis: Redis): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);
}

function round(value: number): number {
  return Number(value.toFixed(1));
}

function table(figures: MemoryFigures): string {
  const row = (name: string, value: number, unit: string) => `  ${name.padEnd(58)} ${value.toFixed(0).padStart(10)} ${unit}\n`;
  const { queued_small: small, queued_large: large } = figures;
  return `\n${[
    row(`Redis per queued prediction, beside its ${tensorBytes} bytes of tensor`, figures.redis_bytes_per_queued_prediction, 'B'),
    row('Redis per result', figures.redis_bytes_per_result, 'B'),
    row(`API at most, ${small} queued`, figures.api_rss_mib_small, 'MiB'),
    row(`API at most, ${large} queued`, figures.api_rss_mib_large, 'MiB'),
    row(`worker at most while it drains ${small}`, figures.worker_rss_mib_small, 'MiB'),
    row(`worker at most while it drains ${large}`, figures.worker_rss_mib_large, 'MiB'),
    row('queued', figures.queued_per_second, '/s'),
    row('drained', figures.drained_per_second, '/s'),
    row('lost', figures.lost, ''),
    row('doubled', figures.doubled, ''),
  ].join('')}\n`;
}
