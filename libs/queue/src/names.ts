// Names of queues and keys. Every key of a pool carries the hash tag `{pool}`, so that one script may touch them all
// on a Redis Cluster.
import type { Lane } from '@millrace/protocol';

export function prefixOf(pool: string): string {
  return `millrace:{${pool}}`;
}

export interface PoolKeys {
  /** Hash of a bundle: `tenant`, `waiters` (API nodes to wake), a result record per prediction index, and marks (marks.ts). */
  results(bundleId: string): string;
  /** Binary inputs that were too large to travel inside the bundle. */
  payload(bundleId: string, index: number): string;
  /** Stream of wake-ups for one API node. */
  replies(node: string): string;
  /** Hash of rows that are accepted and not settled, by `<lane>` and by `<lane>/<tenant>`; and of rows ever `settled`. */
  readonly depth: string;
  /** Sorted set of a tenant's bundle ids, for listing: all scores are 0, so that it is in the order of the ids. */
  index(tenant: string): string;
  /** Pub/sub channel that tells workers which predictions were canceled. */
  readonly canceled: string;
  /** BullMQ's own: the job hash, its lock, the list of waiting jobs. */
  job(lane: Lane, bundleId: string): string;
  lock(lane: Lane, bundleId: string): string;
  list(lane: Lane, list: 'wait' | 'active' | 'delayed' | 'prioritized'): string;
}

/** The job of a prediction that is tried again. The same for whoever asks for it, so that it is queued once. */
export function retryJobId(bundleId: string, index: number, attempt: number): string {
  return `${bundleId}-${index}-retry${attempt}`;
}

/** Where an idempotency key of a tenant is kept; `digest` is the key's. It belongs to no pool. */
export function idempotencyKey(tenant: string, digest: string): string {
  return `millrace:idempotency:${tenant}:${digest}`;
}

export function keysOf(pool: string): PoolKeys {
  const prefix = prefixOf(pool);
  return {
    results: (bundleId) => `${prefix}:results:${bundleId}`,
    payload: (bundleId, index) => `${prefix}:payload:${bundleId}-${index}`,
    replies: (node) => `${prefix}:replies:${node}`,
    depth: `${prefix}:depth`,
    index: (tenant) => `${prefix}:index:${tenant}`,
    canceled: `${prefix}:canceled`,
    job: (lane, bundleId) => `${prefix}:${lane}:${bundleId}`,
    lock: (lane, bundleId) => `${prefix}:${lane}:${bundleId}:lock`,
    list: (lane, list) => `${prefix}:${lane}:${list}`,
  };
}

/** Hash of all API keys, by id. They belong to no pool. */
export const apiKeysKey = 'millrace:keys';

/** Predictions that a key has made in its present minute. */
export function keyRateKey(keyId: string): string {
  return `millrace:rate:${keyId}`;
}
