// Adds bundles to the queue of their pool and lane.
import type { Bundle } from '@millrace/protocol';
import { Queue } from 'bullmq';
import { asQueueUnavailable, type Redis } from './connection.ts';
import { keysOf, prefixOf } from './names.ts';
import { Payloads } from './payloads.ts';

/** Binary inputs that travel beside a bundle. */
export interface Payload {
  readonly index: number;
  readonly bytes: Uint8Array;
}

/** BullMQ's event stream is not read by anyone here. */
const eventStreamLength = 100;
/** A handler only throws while Redis is away or a lock was lost: such a bundle is tried again for ever. */
const retryForever = { attempts: Number.MAX_SAFE_INTEGER, backoff: { type: 'fixed', delay: 1000, jitter: 0.5 } } as const;

export class Producer {
  readonly #redis: Redis;
  readonly #payloadSeconds: number;
  readonly #queues = new Map<string, Queue>();

  /** `payloadSeconds`: how long binary inputs are kept; they must outlive every deadline and retry. */
  constructor(redis: Redis, payloadSeconds: number) {
    this.#redis = redis;
    this.#payloadSeconds = payloadSeconds;
  }

  /**
   * Resolves once Redis has acknowledged the bundle. Rejects with `queue-unavailable` where it did not: the bundle may
   * still have arrived, but nobody was told that it had.
   */
  async add(pool: string, bundleId: string, bundle: Bundle, payloads: readonly Payload[]): Promise<void> {
    const keys = keysOf(pool);
    const rows = bundle.predictions.reduce((sum, prediction) => sum + prediction.rows, 0);
    try {
      // One connection keeps the order: payloads and depth are there before a worker can see the bundle.
      const before = [
        ...payloads.map(({ index, bytes }) => new Payloads(this.#redis, pool).write(bundleId, index, bytes, this.#payloadSeconds)),
        this.#redis.hincrby(keys.depth, bundle.lane, rows),
      ];
      const added = this.#queueOf(pool, bundle.lane).add('bundle', bundle, { jobId: bundleId, removeOnComplete: true, ...retryForever });
      await Promise.all([...before, added]);
    } catch (error) {
      throw asQueueUnavailable(error, 'Redis did not acknowledge the prediction, so it does not count as accepted');
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }

  #queueOf(pool: string, lane: string): Queue {
    const name = `${pool} ${lane}`;
    let queue = this.#queues.get(name);
    if (!queue) {
      queue = new Queue(lane, { prefix: prefixOf(pool), connection: this.#redis, streams: { events: { maxLen: eventStreamLength } }, skipWaitingForReady: true });
      queue.on('error', () => { /* the connection's own listener hears it */ });
      this.#queues.set(name, queue);
    }
    return queue;
  }
}
