// BullMQ's queues, one a pool and lane, and how jobs are put there.
import type { Bundle, Lane } from '@millrace/protocol';
import { type JobsOptions, Queue } from 'bullmq';
import type { Redis } from './connection.ts';
import { prefixOf } from './names.ts';

/** BullMQ's event stream is not read by anyone here. */
const eventStreamLength = 100;
/** A handler only throws while Redis is away or a lock was lost: such a bundle is tried again for ever. */
const retryForever = { attempts: Number.MAX_SAFE_INTEGER, backoff: { type: 'fixed', delay: 1000, jitter: 0.5 } } as const;

/** The queues that a process adds to, opened when they are first used. */
export class Queues {
  readonly #redis: Redis;
  readonly #queues = new Map<string, Queue<Bundle>>();

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** Adds a bundle; one whose job id is queued already is ignored. */
  async add(pool: string, bundle: Bundle, options: JobsOptions & { jobId: string }): Promise<void> {
    await this.#of(pool, bundle.lane).add('bundle', bundle, { removeOnComplete: true, priority: bundle.priority, ...retryForever, ...options });
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }

  #of(pool: string, lane: Lane): Queue<Bundle> {
    const name = `${pool} ${lane}`;
    let queue = this.#queues.get(name);
    if (!queue) {
      queue = new Queue<Bundle>(lane, { prefix: prefixOf(pool), connection: this.#redis, streams: { events: { maxLen: eventStreamLength } }, skipWaitingForReady: true });
      queue.on('error', () => { /* the connection's own listener hears it */ });
      this.#queues.set(name, queue);
    }
    return queue;
  }
}
