// How many predictions a key may make in a minute, counted in Redis for all API nodes together. A minute begins with the first
// prediction after the last one was over. `rate-limiter-flexible` counts what it refuses too: one batch that is too large would
// take the rest of the minute.
import { asQueueUnavailable, type Redis } from './connection.ts';
import { keyRateKey } from './names.ts';

/** What is left of a key's minute. */
export interface Quota {
  /** False where what was asked for is more than was left: then nothing was taken. */
  readonly granted: boolean;
  readonly left: number;
  /** Seconds until all of it is there again, rounded up. */
  readonly resetSeconds: number;
}

export const rateWindowSeconds = 60;

export class KeyRate {
  readonly #redis: Redis;

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** Takes `wanted` predictions (0 only looks) of the `perMinute` that the key has. Rejects with `queue-unavailable`. */
  async take(keyId: string, perMinute: number, wanted: number): Promise<Quota> {
    try {
      const [granted, left, resetMs] = await this.#redis.millraceTake(keyRateKey(keyId), wanted, perMinute, rateWindowSeconds * 1000);
      return { granted: granted === 1, left, resetSeconds: Math.ceil(resetMs / 1000) };
    } catch (error) {
      throw asQueueUnavailable(error, 'Redis did not say what is left of the key’s rate');
    }
  }
}
