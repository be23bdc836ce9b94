// Adds bundles to the queue of their pool and lane.
import { type Bundle, earliestBundleId } from '@millrace/protocol';
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
      // Where there is no answer the bundle may have arrived, and stays booked: an empty lane sets that right.
      added.catch((error: unknown) => { if (error instanceof ReplyError) booked.then(() => this.#unbook(pool, bundleId, bundle, payloads)).catch(() => { /* likewise */ }); });
      await Promise.all([...written, booked, added]);
    } catch (error) {
      throw asQueueUnavailable(error, 'Redis did not acknowledge the prediction, so it does not count as accepted');
    }
  }

  async close(): Promise<void> {
    await this.#queues.close();
  }

  async #book(pool: string, bundleId: string, bundle: Bundle): Promise<void> {
    const { lane, tenant } = bundle;
    const keys = keysOf(pool);
    const forgetBefore = earliestBundleId(pool, Date.now() - 1000 * this.#retentionSeconds);
    await this.#redis.millraceAdmit(keys.depth, keys.index(tenant), bundleId, lane, tenant, rowsOf(bundle), forgetBefore, this.#retentionSeconds);
  }

  async #unbook(pool: string, bundleId: string, bundle: Bundle, payloads: readonly Payload[]): Promise<void> {
    const { lane, tenant } = bundle;
    const keys = keysOf(pool);
    const rows = -rowsOf(bundle);
    for (const { index } of payloads) new Payloads(this.#redis, pool).remove(bundleId, index);
    await this.#redis.pipeline().zrem(keys.index(tenant), bundleId).hincrby(keys.depth, lane, rows).hincrby(keys.depth, `${lane}/${tenant}`, rows).exec();
  }
}

function rowsOf({ predictions }: Bundle): number {
  let rows = 0;
  for (const prediction of predictions) rows += prediction?.rows ?? 0;
  return rows;
}
