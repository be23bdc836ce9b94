// How far predictions have come that have no result yet: less to ask than a lookup, for those who ask again and again.
import { type Address, lanes, type Pending } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { type Retried, retryField } from './marks.ts';
import { keysOf } from './names.ts';

export interface Progress extends Pick<Pending, 'state'> {
  /** Runs that have ended. */
  readonly attempts: number;
}

/** By address; undefined for one that neither waits nor runs any more. One round trip, and another where some are tried again. */
export async function readProgress(redis: Redis, addresses: readonly Address[]): Promise<Map<Address, Progress | undefined>> {
  const ofBundles = await Promise.all([...Map.groupBy(addresses, ({ bundleId }) => bundleId)].map(async ([bundleId, ofBundle]) => {
    const keys = keysOf((ofBundle[0] as Address).pool);
    const [carried, retries] = await Promise.all([
      // A bundle's job is in one lane, and its lock is there while somebody has claimed it.
      redis.exists(...lanes.flatMap((lane) => [keys.job(lane, bundleId), keys.lock(lane, bundleId)])),
      redis.hmget(keys.results(bundleId), ...ofBundle.map(({ index }) => retryField(index))),
    ]);
    const together: Progress | undefined = carried === 0 ? undefined : { state: carried === 1 ? 'queued' : 'running', attempts: 0 };
    return Promise.all(ofBundle.map(async (address, place) => [address, await progressAgain(redis, address, retries[place] ?? null) ?? together] as const));
  }));
  return new Map(ofBundles.flat());
}

/** Of one that is tried again under a job of its own. */
async function progressAgain(redis: Redis, { pool }: Address, retried: string | null): Promise<Progress | undefined> {
  if (retried === null) return undefined;
  const { jobId, lane, pending: { attempts = 0 } } = JSON.parse(retried) as Retried;
  return { state: await redis.exists(keysOf(pool).lock(lane, jobId)) === 1 ? 'running' : 'queued', attempts };
}
