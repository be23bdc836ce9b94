// Adds bundles to the queue of their pool and lane.
import { type Bundle, earliestBundleId, versionName } from '@millrace/protocol';
import { ReplyError } from 'ioredis';
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
  readonly #retentionSeconds: number;
  readonly #queues: Queues;

  /** `retentionSeconds`: how long bundles can be listed. Binary inputs are kept twice as long: they must outlive every deadline and retry. */
  constructor(redis: Redis, retentionSeconds: number) {
    this.#redis = redis;
    this.#retentionSeconds = retentionSeconds;
    this.#queues = new Queues(redis);
  }

  /**
   * Resolves once Redis has acknowledged the bundle. Rejects with `queue-unavailable` where it did not: the bundle may
   * still have arrived, but nobody was told that it had.
   */
  async add(pool: string, bundleId: string, bundle: Bundle, payloads: readonly Payload[]): Promise<void> {
    try {
      // One connection keeps the order: payloads, depth and index are there before a worker can see the bundle.
      const written = payloads.map(({ index, bytes }) => new Payloads(this.#redis, pool).write(bundleId, index, bytes, 2 * this.#retentionSeconds));
      const booked = this.#book(pool, bundleId, bundle);
      const added = this.#queues.add(pool, bundle, { jobId: bundleId });
      // Where there is no answer the bundle may have arrived, and stays booked until its job is found missing (demand.lua).
      added.catch((error: unknown) => { if (error instanceof ReplyError) booked.then(() => this.#unbook(pool, bundleId, bundle, payloads)).catch(() => { /* likewise */ }); });
      await Promise.all([...written, booked, added]);
    } catch (error) {
      throw asQueueUnavailable(error, 'Redis did not acknowledge the prediction, so it does not count as accepted');
    }
  }

  async close(): Promise<void> {
    await this.#queues.close();
  }

  async #book(pool: string, bundleId: string, { lane, tenant, model, predictions }: Bundle): Promise<void> {
    const keys = keysOf(pool);
    const forgetBefore = earliestBundleId(pool, Date.now() - 1000 * this.#retentionSeconds);
    const rows = predictions.reduce((sum, prediction) => sum + (prediction?.rows ?? 0), 0);
    await this.#redis.millraceAdmit(keys.depth, keys.bookings, keys.work, keys.index(tenant), bundleId, lane, versionName(model), tenant, rows, forgetBefore, this.#retentionSeconds);
  }

  async #unbook(pool: string, bundleId: string, { tenant }: Bundle, payloads: readonly Payload[]): Promise<void> {
    const keys = keysOf(pool);
    for (const payload of payloads) new Payloads(this.#redis, pool).remove(bundleId, payload.index);
    await this.#redis.millraceUnbook(keys.depth, keys.bookings, keys.index(tenant), bundleId);
  }
}
