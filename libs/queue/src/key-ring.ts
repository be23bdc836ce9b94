// What an API node knows of the keys: a copy, read again every two seconds, so that no request asks Redis for its key.
import { timingSafeEqual } from 'node:crypto';
import { type ApiKey, keyDigest, readKeyId } from '@millrace/protocol';
import { asQueueUnavailable, type Redis } from './connection.ts';
import { readKey, type StoredKey } from './keys.ts';
import { apiKeysKey } from './names.ts';

const readEveryMs = 2000;
/** A revoked key must not work longer than this: an older copy is no proof any more. */
const longestAgeMs = 5000;

export class KeyRing {
  readonly #redis: Redis;
  readonly #onError: (error: unknown) => void;
  #keys = new Map<string, StoredKey>();
  /** Keys by their text, where it was proven since the last reading: their digest need not be computed for each request. */
  readonly #proven = new Map<string, ApiKey>();
  #readAt = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(redis: Redis, onError: (error: unknown) => void) {
    this.#redis = redis;
    this.#onError = onError;
  }

  /** Resolves once the keys are known here; rejects where they cannot be read. */
  async start(): Promise<void> {
    await this.#read();
    this.#readOn();
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  /** True where there has never been a key. */
  get isEmpty(): boolean {
    return this.#keys.size === 0;
  }

  /** The key with this text, which may have expired or been revoked; undefined where there is none. Throws `queue-unavailable` where Redis has been away for too long. */
  find(text: string): ApiKey | undefined {
    if (performance.now() - this.#readAt > longestAgeMs) {
      throw asQueueUnavailable(undefined, 'The API keys could not be read in time: Redis cannot be reached');
    }
    const proven = this.#proven.get(text);
    if (proven) return proven;
    const key = this.#keys.get(readKeyId(text) ?? '');
    if (!key || !timingSafeEqual(keyDigest(text), Buffer.from(key.digest, 'hex'))) return undefined;
    this.#proven.set(text, key);
    return key;
  }

  #readOn(): void {
    if (this.#stopped) return;
    this.#timer = setTimeout(() => {
      void this.#read().catch(this.#onError).then(() => this.#readOn());
    }, readEveryMs);
  }

  async #read(): Promise<void> {
    const askedAt = performance.now();
    const records = await this.#redis.hgetall(apiKeysKey);
    this.#keys = new Map(Object.entries(records).map(([id, text]) => [id, readKey(text)]));
    this.#proven.clear();
    this.#readAt = askedAt;
  }
}
