// What has been canceled lately, as a worker hears it, so that a claim need not ask Redis.
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

/** Ids remembered; past it the oldest are forgotten, and what was bundled before them is looked up again. */
const remembered = 10_000;
const clockMarginMs = 1000;

export class Cancellations {
  readonly #redis: Redis;
  readonly #channel: string;
  readonly #ids = new Map<string, number>();
  readonly #onCanceled: (predictionId: string) => void;
  #heardSince = Infinity;

  /** `redis` becomes a subscriber: it can be used for nothing else. */
  constructor(redis: Redis, pool: string, onCanceled: (predictionId: string) => void) {
    this.#redis = redis;
    this.#channel = keysOf(pool).canceled;
    this.#onCanceled = onCanceled;
  }

  async start(): Promise<void> {
    this.#redis.on('message', (_channel, id: string) => this.#hear(id));
    this.#redis.on('close', () => { this.#heardSince = Infinity; });
    this.#redis.on('ready', () => { this.#listen().catch(() => { /* the next 'ready' tries again */ }); });
    await this.#listen();
  }

  /**
   * Whether every cancellation of a bundle formed at this time (milliseconds since the epoch) has been heard here. Where
   * hosts' clocks differ by more than the margin, a canceled prediction may be run in vain; its result still loses.
   */
  covers(bundledAt: number): boolean {
    return bundledAt > this.#heardSince + clockMarginMs;
  }

  get isEmpty(): boolean {
    return this.#ids.size === 0;
  }

  has(predictionId: string): boolean {
    return this.#ids.has(predictionId);
  }

  async #listen(): Promise<void> {
    await this.#redis.subscribe(this.#channel);
    if (this.#heardSince === Infinity) this.#heardSince = Date.now();
  }

  #hear(id: string): void {
    this.#ids.set(id, Date.now());
    if (this.#ids.size > remembered) {
      const [oldest] = this.#ids;
      if (oldest) {
        this.#ids.delete(oldest[0]);
        this.#heardSince = Math.max(this.#heardSince, oldest[1]);
      }
    }
    this.#onCanceled(id);
  }
}
