// Adds bundles to the queue of their pool and lane.
import { type Bundle, predictionsOf } from '@millrace/protocol';
import { asQueueUnavailable, type Redis } from './connection.ts';
import { keysOf } from './names.ts';
import { Payloads } from './payloads.ts';
import { Queues } from './queues.ts';

/** Binary inputs that travel beside a bundle. */
export interface Payload {
  readonly index: number;
  readonly bytes: Uint8Array;
}

export class Producer {
  readonly #redis: Redis;
  readonly #payloadSeconds: number;
  readonly #queues: Queues;

  /** `payloadSeconds`: how long binary inputs are kept; they must outlive every deadline and retry. */
  constructor(redis: Redis, payloadSeconds: number) {
    this.#redis = redis;
    this.#payloadSeconds = payloadSeconds;
    this.#queues = new Queues(redis);
  }

  /**
   * Resolves once Redis has acknowledged the bundle. Rejects with `queue-unavailable` where it did not: the bundle may
   * still have arrived, but nobody was told that it had.
   */
  async add(pool: string, bundleId: string, bundle: Bundle, payloads: readonly Payload[]): Promise<void> {
    const keys = keysOf(pool);
    let rows = 0;
    for (const prediction of predictionsOf(bundle).values()) rows += prediction.rows;
    try {
      // One connection keeps the order: payloads and depth are there before a worker can see the bundle.
      const before = [
        ...payloads.map(({ index, bytes }) => new Payloads(this.#redis, pool).write(bundleId, index, bytes, this.#payloadSeconds)),
        this.#redis.hincrby(keys.depth, bundle.lane, rows),
      ];
      await Promise.all([...before, this.#queues.add(pool, bundle, { jobId: bundleId })]);
    } catch (error) {
      throw asQueueUnavailable(error, 'Redis did not acknowledge the prediction, so it does not count as accepted');
    }
  }

  async close(): Promise<void> {
    await this.#queues.close();
  }
}
