// The feed of a tenant: how its predictions end, while somebody follows it. A stream per pool, which settling writes to where
// it is there (settle.lua); followers make it, read from it, and it goes when they have gone.
import { type Head, predictionId } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

/** Bundles' entries, about. Who reads later than this has missed something. */
export const feedLength = 10_000;
const feedSeconds = 120;
const entriesPerRead = 500;

export interface FeedEvent {
  readonly predictionId: string;
  readonly head: Head;
}

export interface FeedPart {
  readonly events: readonly FeedEvent[];
  /** The entry's id in the pool's stream: reading goes on after it. */
  readonly last: string;
}

/** Makes the feed where it is missing, and keeps it for two minutes more. Returns the id of its last entry. */
export async function followFeed(redis: Redis, pool: string, tenant: string): Promise<string> {
  const feed = keysOf(pool).feed(tenant);
  const newest = await redis.xrevrange(feed, '+', '-', 'COUNT', 1);
  const last = newest[0]?.[0] ?? await redis.xadd(feed, '*', 'created', '') as string;
  await redis.expire(feed, feedSeconds);
  return last;
}

/** What came after an entry, one part for each bundle; empty where nothing has. */
export async function readFeed(redis: Redis, pool: string, tenant: string, after: string): Promise<FeedPart[]> {
  const entries = await redis.xrange(keysOf(pool).feed(tenant), `(${after}`, '+', 'COUNT', entriesPerRead);
  return entries.map(([last, fields]) => ({ last, events: fields[0] === 'bundle' ? eventsOf(fields) : [] }));
}

function eventsOf([, bundleId = '', ...fields]: readonly string[]): FeedEvent[] {
  const events: FeedEvent[] = [];
  for (let at = 0; at < fields.length; at += 2) {
    events.push({ predictionId: predictionId(bundleId, Number(fields[at])), head: JSON.parse(fields[at + 1] as string) as Head });
  }
  return events;
}
