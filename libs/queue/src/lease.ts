// What one process at a time has: taken for a while, extended for as long as it is wanted, and free again when its holder dies.
import { randomUUID } from 'node:crypto';
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

export class KeyLease {
  readonly token = randomUUID();
  readonly #redis: Redis;
  readonly #key: string;
  readonly #ms: number;

  constructor(redis: Redis, key: string, ms: number) {
    this.#redis = redis;
    this.#key = key;
    this.#ms = ms;
  }

  /** False where it is held already. */
  async take(): Promise<boolean> {
    return await this.#redis.set(this.#key, this.token, 'PX', this.#ms, 'NX') === 'OK';
  }

  /** Holds it for another while; false where it has ended, or is another's. */
  async extend(): Promise<boolean> {
    return await this.#redis.millraceExtend(this.#key, this.token, this.#ms) === 1;
  }

  /** Another may take it at once. */
  async release(): Promise<void> {
    await this.#redis.millraceExtend(this.#key, this.token, 0);
  }
}

/** Who may scale the pool. */
export function autoscalerLease(redis: Redis, pool: string, ms: number): KeyLease {
  return new KeyLease(redis, keysOf(pool).autoscaler, ms);
}
