// What Redis and the processes count themselves.
import type { Redis } from 'ioredis';
import type { System } from '../../apps/cli/src/embedded/system.ts';

export interface Sums {
  readonly bundles: number;
  readonly bundledPredictions: number;
  readonly microBatches: number;
  readonly rows: number;
  readonly settled: number;
}

/** Reads the counters of the systems' APIs and workers, added up. */
export async function readMetrics(systems: readonly System[]): Promise<Sums> {
  const urls = systems.flatMap(({ url, workerUrls }) => [url, ...workerUrls]);
  const texts = await Promise.all(urls.map(async (url) => (await fetch(`${url}/metrics`)).text()));
  const sum = (name: string) => texts.reduce((all, text) => all + total(text, name), 0);
  return {
    bundles: sum('millrace_bundle_size_count'),
    bundledPredictions: sum('millrace_bundle_size_sum'),
    microBatches: sum('millrace_batch_size_count'),
    rows: sum('millrace_rows_total'),
    settled: sum('millrace_predictions_total'),
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
