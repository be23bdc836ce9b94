// The feeds of the tenants that have open tails here: read once for all of a tenant's tails.
import { backfillsPool, type Cursor, feedStart, followFeed, readPools, type Redis, rethrowUnavailable } from '@millrace/queue';
import { readPage, type Tail } from './tail.ts';

export interface TenantFeedsOptions {
  readonly redis: Redis;
  /** Those that this node knows of; Redis may know of more. */
  readonly pools: () => Iterable<string>;
  readonly onError: (error: unknown) => void;
}

interface TenantFeed {
  readonly tenant: string;
  readonly tails: Set<Tail>;
  /** By pool: where reading goes on. */
  readonly cursors: Map<string, Cursor>;
  /** Pools that are being read. */
  readonly reading: Set<string>;
  /** Resolves once every pool is followed. */
  readonly followed: Promise<void>;
  /** Tails, also those that are about to join. */
  users: number;
}

const readEveryMs = 250;

export class TenantFeeds {
  readonly #options: TenantFeedsOptions;
  readonly #feeds = new Map<string, TenantFeed>();
  /** All that were ever seen: predictions of a pool that nobody knows any more may still end. */
  readonly #pools = new Set<string>();
  readonly #failing = new Set<string>();
  #timer: NodeJS.Timeout | undefined;

  constructor(options: TenantFeedsOptions) {
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => this.#readAll(), readEveryMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Resolves once nothing of the tenant's can end unseen, with how the tail leaves. Throws `queue-unavailable`. */
  async join(tail: Tail): Promise<() => void> {
    const feed = this.#feeds.get(tail.tenant) ?? this.#open(tail.tenant);
    const leave = () => {
      feed.tails.delete(tail);
      if (--feed.users === 0) this.#feeds.delete(feed.tenant);
    };
    feed.users++;
    try {
      await feed.followed;
    } catch (error) {
      leave();
      rethrowUnavailable(error);
    }
    feed.tails.add(tail);
    tail.begin(feed.cursors);
    return leave;
  }

  #open(tenant: string): TenantFeed {
    const cursors = new Map<string, Cursor>();
    const feed: TenantFeed = { tenant, tails: new Set(), cursors, reading: new Set(), followed: this.#follow(tenant, cursors), users: 0 };
    this.#feeds.set(tenant, feed);
    return feed;
  }

  async #follow(tenant: string, cursors: Map<string, Cursor>): Promise<void> {
    const { redis } = this.#options;
    await this.#findPools();
    await Promise.all([...this.#pools].map(async (pool) => cursors.set(pool, await followFeed(redis, { pool, tenant }))));
  }

  async #findPools(): Promise<void> {
    const { redis, pools } = this.#options;
    for (const pool of [...pools(), ...await readPools(redis), backfillsPool]) this.#pools.add(pool);
  }

  #readAll(): void {
    if (this.#feeds.size === 0) return;
    this.#findPools().catch(() => { /* so reading fails too */ });
    for (const feed of this.#feeds.values()) {
      // Not before it is followed.
      if (feed.tails.size === 0) continue;
      for (const pool of this.#pools) void this.#read(feed, pool);
    }
  }

  /** Reads all there is of one pool, one page after the other, unless that is being done. */
  async #read({ tenant, tails, cursors, reading }: TenantFeed, pool: string): Promise<void> {
    if (reading.has(pool)) return;
    reading.add(pool);
    try {
      for (let more = true; more && tails.size > 0;) {
        const page = await readPage(this.#options.redis, pool, tenant, cursors.get(pool) ?? feedStart);
        cursors.set(pool, page.last);
        for (const tail of tails) tail.take(pool, page);
        more = page.more;
      }
      this.#failing.delete(pool);
    } catch (error) {
      // Told once, until it works again.
      if (!this.#failing.has(pool)) this.#options.onError(error);
      this.#failing.add(pool);
    } finally {
      reading.delete(pool);
    }
  }
}
