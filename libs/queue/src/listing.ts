// Listing a tenant's predictions, newest first, over several pools: from the index of bundles to what Redis knows of each.
import { type Bundle, earliestBundleId, lanes, type Pending, predictionId, type ResultRecord } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { pendingIn } from './lookup.ts';
import { type Retried, retryField } from './marks.ts';
import { keysOf } from './names.ts';

/** A result without its outputs and labels, or a state. */
export type Summary = Omit<ResultRecord, 'outputs' | 'labels'> | Pending;

export interface Listed {
  readonly id: string;
  readonly summary: Summary;
}

/** The last prediction that was looked at: its bundle's id without the pool, which orders bundles by time, and its place. */
export interface Position {
  readonly bundle: string;
  readonly index: number;
}

export interface ListQuery {
  readonly tenant: string;
  readonly pools: readonly string[];
  readonly matches: (summary: Summary) => boolean;
  /** Nothing that was accepted at or after this time (milliseconds since the epoch), nor at or before that. */
  readonly acceptedBefore?: number | undefined;
  readonly acceptedAfter?: number | undefined;
  /** Goes on after this one. */
  readonly after?: Position | undefined;
  readonly limit: number;
}

export interface Page {
  readonly predictions: readonly Listed[];
  /** Where to go on; undefined at the end. */
  readonly next: Position | undefined;
}

/** Read together: a bundle that waits may have hundreds of kilobytes. */
const bundlesAtOnce = 32;
/** A page ends after so many bundles, short or empty, so that a rare filter costs no long request. */
const bundlesPerPage = 640;
/** A bundle is formed at most so long after its predictions were accepted: adding gives up before. */
const longestHoldMs = 10_000;

interface Reference {
  readonly pool: string;
  readonly bundle: string;
}

/** Reads one page. What has expired meanwhile is left out. */
export async function listPredictions(redis: Redis, query: ListQuery): Promise<Page> {
  const predictions: Listed[] = [];
  let next = query.after;
  for (let seen = 0; seen < bundlesPerPage; seen += bundlesAtOnce) {
    const references = await bundlesAfter(redis, query, next);
    const bundles = await readBundles(redis, query.tenant, references);
    for (const [place, { pool, bundle }] of references.entries()) {
      const from = bundle === next?.bundle ? next.index - 1 : Infinity;
      for (const [index, summary] of (bundles[place] ?? []).filter(([itsIndex]) => itsIndex <= from)) {
        if (predictions.length === query.limit) return { predictions, next };
        next = { bundle, index };
        if (isWanted(summary, query)) predictions.push({ id: predictionId(`${pool}-${bundle}`, index), summary });
      }
      next = { bundle, index: 0 };
    }
    if (references.length < bundlesAtOnce) return { predictions, next: undefined };
  }
  return { predictions, next };
}

function isWanted(summary: Summary, { matches, acceptedBefore = Infinity, acceptedAfter = -Infinity }: ListQuery): boolean {
  return summary.acceptedAt < acceptedBefore && summary.acceptedAt > acceptedAfter && matches(summary);
}

/** The next bundles of all pools together. Each pool gives as many as are wanted, so none that belongs among them is missed. */
async function bundlesAfter(redis: Redis, { tenant, pools, acceptedBefore, acceptedAfter = 0 }: ListQuery, after: Position | undefined): Promise<Reference[]> {
  const ofPools = await Promise.all(pools.map(async (pool) => {
    const newest = acceptedBefore === undefined ? '+' : `(${earliestBundleId(pool, acceptedBefore + longestHoldMs)}`;
    // Where predictions of the bundle are left it comes again.
    const from = after ? `${after.index > 0 ? '[' : '('}${pool}-${after.bundle}` : newest;
    const ids = await redis.zrevrangebylex(keysOf(pool).index(tenant), from, `[${earliestBundleId(pool, acceptedAfter)}`, 'LIMIT', 0, bundlesAtOnce);
    return ids.map((id) => ({ pool, bundle: id.slice(pool.length + 1) }));
  }));
  return ofPools.flat().toSorted((a, b) => (a.bundle < b.bundle ? 1 : -1)).slice(0, bundlesAtOnce);
}

/** Each bundle's predictions by index, the last one first. */
async function readBundles(redis: Redis, tenant: string, references: readonly Reference[]): Promise<(readonly (readonly [index: number, summary: Summary])[])[]> {
  return Promise.all(references.map(async ({ pool, bundle }) => {
    const keys = keysOf(pool);
    const id = `${pool}-${bundle}`;
    // Jobs before results: a bundle is removed only after its last result is written, so this order cannot miss both.
    const jobs = lanes.map((lane) => Promise.all([redis.hget(keys.job(lane, id), 'data'), redis.exists(keys.lock(lane, id))]));
    const [data, marks] = await Promise.all([Promise.all(jobs), redis.millraceSummaries(keys.results(id))]);
    return summariesOf(tenant, data, marks);
  }));
}

function summariesOf(tenant: string, jobs: readonly (readonly [data: string | null, locks: number])[], [owner, ...marks]: readonly string[]): [number, Summary][] {
  const found = new Map<number, Summary>();
  for (const [data, locks] of jobs) {
    if (data === null) continue;
    const bundle = JSON.parse(data) as Bundle;
    for (const index of bundle.predictions.keys()) {
      const pending = pendingIn(bundle, index, tenant, locks === 1);
      if (pending) found.set(index, pending);
    }
  }
  const settled = new Map<number, Summary>();
  for (let at = 0; at < (owner === tenant ? marks.length : 0); at += 2) {
    const field = marks[at] as string;
    const value: unknown = JSON.parse(marks[at + 1] as string);
    if (field.startsWith(retryField(''))) found.set(Number(field.slice(retryField('').length)), (value as Retried).pending);
    else settled.set(Number(field), value as Summary);
  }
  return [...new Map([...found, ...settled])].toSorted(([a], [b]) => b - a);
}
