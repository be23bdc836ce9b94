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
  /** Hash of rows that are accepted and not settled, by `<lane>/<model>@<version>/<tenant>`. */
  readonly depth: string;
  /** Hash of the same by bundle and chunk: what the depth sums up (booking.lua). */
  readonly bookings: string;
  /** Hash of what was done, ever: rows that arrived, by lane and model version, and were settled; rows that ran and what they cost (work.lua). */
  readonly work: string;
  /** Hash of the pool's replicas: state, threads, and when each was last heard of. */
  readonly replicas: string;
  /** What the autoscaler last decided. */
  readonly decision: string;
  /** Hash of the rows that backfills have still to queue, by backfill (to-come.lua). */
  readonly toCome: string;
  /** Sorted set of a tenant's bundle ids, for listing: all scores are 0, so that it is in the order of the ids. */
  index(tenant: string): string;
  /** Stream of what the dispatcher has to tell: a prediction's event, whom to notify, and its head; or a backfill's head. */
  readonly resultsQueue: string;
  /** Hash of who listens to all of a tenant's predictions: by tenant, the ends (and `running`) that are asked for. */
  readonly listeners: string;
  /** Stream of how a tenant's predictions (or backfills) end, while somebody follows it. */
  feed(tenant: string): string;
  /** Hash of a backfill's chunks that are queued or have a result nobody has taken: by chunk, round and attempt `open`, or the result; and marks. */
  chunks(backfillId: string): string;
  /** Pub/sub channel that tells workers which predictions were canceled. */
  readonly canceled: string;
  /** Which autoscaler scales the pool, until its lease ends. */
  readonly autoscaler: string;
  /** BullMQ's own: the job hash, its lock, the stream of what happens to jobs, the list of waiting jobs. */
  job(lane: Lane, bundleId: string): string;
  lock(lane: Lane, bundleId: string): string;
  events(lane: Lane): string;
  list(lane: Lane, list: 'wait' | 'active' | 'prioritized'): string;
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
    bookings: `${prefix}:bookings`,
    work: `${prefix}:work`,
    replicas: `${prefix}:replicas`,
    decision: `${prefix}:decision`,
    toCome: `${prefix}:to-come`,
    index: (tenant) => `${prefix}:index:${tenant}`,
    resultsQueue: `${prefix}:results`,
    listeners: `${prefix}:listeners`,
    feed: (tenant) => `${prefix}:feed:${tenant}`,
    chunks: (backfillId) => `${prefix}:chunks:${backfillId}`,
    canceled: `${prefix}:canceled`,
    autoscaler: `${prefix}:autoscaler`,
    job: (lane, bundleId) => `${prefix}:${lane}:${bundleId}`,
    lock: (lane, bundleId) => `${prefix}:${lane}:${bundleId}:lock`,
    events: (lane) => `${prefix}:${lane}:events`,
    list: (lane, list) => `${prefix}:${lane}:${list}`,
  };
}

/** Hash of all API keys, by id. They belong to no pool. */
export const apiKeysKey = 'millrace:keys';

/** Predictions that a key has made in its present minute. */
export function keyRateKey(keyId: string): string {
  return `millrace:rate:${keyId}`;
}

/** Set of the pools that there are. */
export const poolsKey = 'millrace:pools';

/** Keys of what is delivered. One hash tag for all of it: it belongs to no pool, and one script touches several. */
const deliveries = 'millrace:{deliveries}';
export const deliveryKeys = {
  prefix: deliveries,
  /** Sorted set of hosts, by when something for them may be claimed (milliseconds of Redis' clock). */
  hosts: `${deliveries}:hosts`,
  /** Hash of the hosts that are left alone, and until when. */
  holds: `${deliveries}:holds`,
  /** Hash of one delivery: `state`, and the `body` that is sent. */
  delivery: (id: string) => `${deliveries}:delivery:${id}`,
  /** Sorted sets of a tenant's delivery ids, all and dead ones: all scores are 0, so that they are in the order of the ids. */
  index: (tenant: string) => `${deliveries}:index:${tenant}`,
  dead: (tenant: string) => `${deliveries}:dead:${tenant}`,
  /** Hash of a tenant's endpoints, by id. */
  endpoints: (tenant: string) => `${deliveries}:endpoints:${tenant}`,
  /** Hash of how endpoints fare, by id. */
  health: (tenant: string) => `${deliveries}:health:${tenant}`,
  /** Set of the tenants that have, or had, endpoints. */
  tenants: `${deliveries}:tenants`,
  /** Hash of the secrets that sign webhooks of requests, by tenant. */
  secrets: `${deliveries}:secrets`,
} as const;

/** What is told of backfills is kept as if they were a pool of this name, which no model's pool has: beside their own keys. */
export const backfillsPool = 'backfills';

/** Keys of backfills. One hash tag for all of it, likewise; their chunks are in their pool's. */
const backfills = prefixOf(backfillsPool);
export const backfillKeys = {
  /** Hash of one backfill: its `record` as it was made, how far it is (`state`, `progress`), what is asked of it (`wish`), and a field for each event that was told. */
  backfill: (id: string) => `${backfills}:backfill:${id}`,
  /** Which coordinator has it, until its lease ends. */
  lease: (id: string) => `${backfills}:lease:${id}`,
  /** There while a coordinator is, and for a while after. */
  coordinator: `${backfills}:coordinator`,
  /** Set of those that a coordinator has to see to. */
  open: `${backfills}:open`,
  /** Sorted set of a tenant's backfill ids: all scores are 0, so that it is in the order of the ids. */
  index: (tenant: string) => `${backfills}:index:${tenant}`,
} as const;

/** Where BullMQ keeps a tenant's reply queues. Of their own, so that no tenant puts jobs into other queues of the same Redis. */
export function replyQueuePrefix(tenant: string): string {
  return `millrace:replies:{${tenant}}`;
}
