// What Redis and the processes count themselves.
import type { Redis } from 'ioredis';
import type { System } from '../../apps/cli/src/embedded/system.ts';

export interface Sums {
  readonly bundles: number;
  readonly bundledPredictions: number;
  readonly microBatches: number;
  readonly rows: number;
}

/** Reads the counters of the system's API and workers. */
export async function readMetrics({ url, workerUrls }: System): Promise<Sums> {
  const [api, ...workers] = await Promise.all([url, ...workerUrls].map(async (base) => (await fetch(`${base}/metrics`)).text()));
  const overWorkers = (name: string) => workers.reduce((sum, text) => sum + total(text, name), 0);
  return {
    bundles: total(api ?? '', 'millrace_bundle_size_count'),
    bundledPredictions: total(api ?? '', 'millrace_bundle_size_sum'),
    microBatches: overWorkers('millrace_batch_size_count'),
    rows: overWorkers('millrace_rows_total'),
  };
}

function total(text: string, name: string): number {
  return text.split('\n').filter((line) => line.startsWith(`${name}{`) || line.startsWith(`${name} `)).reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' ') + 1)), 0);
}

/** All commands that Redis has run, those inside scripts and our own reading of it included. */
export async function commandCalls(redis: Redis): Promise<number> {
  const stats = await redis.info('commandstats');
  return [...stats.matchAll(/^cmdstat_[^:]+:calls=(\d+)/gm)].reduce((sum, [, calls]) => sum + Number(calls), 0);
}
