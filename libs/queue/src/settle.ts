// Settling: writing predictions' results, once.
import { type Address, inlineReplyLength, type Notify, type ResultRecord } from '@millrace/protocol';
import { feedLength } from './feed.ts';
import type { Redis } from './connection.ts';
import { keysOf, type PoolKeys } from './names.ts';
import { Work } from './work.ts';

/** A bundle's part that settling needs. */
export interface SettledBundle {
  readonly bundleId: string;
  readonly tenant: string;
  /** The API node that waits for it, if any. */
  readonly replyTo?: string | undefined;
}

export interface Settlement {
  readonly index: number;
  readonly record: ResultRecord;
  /** What a waiting API node is sent: the prediction as JSON text. Without it, the node reads the record. */
  readonly reply?: string;
  /** Who is told, beside those who listen to all of the tenant's. */
  readonly notify?: Notify | undefined;
}

export interface SettleOptions {
  readonly work?: Work;
  readonly announce?: boolean;
}

/** An API node that reads its replies this late finds them in the results hash. */
const replyStreamLength = 10_000;

/** Settles predictions of one pool. */
export class Settler {
  readonly #redis: Redis;
  readonly #keys: PoolKeys;
  readonly #retentionSeconds: number;

  constructor(redis: Redis, pool: string, retentionSeconds: number) {
    this.#redis = redis;
    this.#keys = keysOf(pool);
    this.#retentionSeconds = retentionSeconds;
  }

  /**
   * Writes results that are not written yet and wakes who waits; returns the indexes that were new. `work` is what running
   * rows of the bundle has cost so far; `announce` tells the workers too, so that they do not run what is settled.
   */
  async settle({ bundleId, tenant, replyTo }: SettledBundle, settlements: readonly Settlement[], { work = new Work(), announce = false }: SettleOptions = {}): Promise<Set<number>> {
    const { depth, bookings, work: counts, resultsQueue, listeners, canceled } = this.#keys;
    const keys = [this.#keys.results(bundleId), depth, bookings, counts, resultsQueue, this.#keys.feed(tenant), listeners, ...(replyTo === undefined ? [] : [this.#keys.replies(replyTo)])];
    const fresh = await this.#redis.millraceSettle(
      keys.length, ...keys,
      bundleId, tenant, this.#retentionSeconds, this.#keys.replies(''), replyStreamLength, announce ? canceled : '', feedLength, ...work.take(),
      ...settlements.flatMap(({ index, record, reply = '', notify }) => [
        index, record.rows, JSON.stringify(record), reply.length > inlineReplyLength ? '' : reply, notify ? JSON.stringify(notify) : '',
      ]),
    );
    return new Set(fresh.map(Number));
  }

  /** Whether it is settled; else `node` will be woken when it is. */
  async watch({ bundleId, index }: Address, node: string): Promise<boolean> {
    return await this.#redis.millraceWatch(this.#keys.results(bundleId), index, node, this.#retentionSeconds) === 1;
  }
}
