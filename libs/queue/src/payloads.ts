// Binary inputs that are too large to travel inside a bundle: one Redis value each, beside it.
import type { Redis } from './connection.ts';
import { keysOf, type PoolKeys } from './names.ts';

/** The payloads of one pool. */
export class Payloads {
  readonly #redis: Redis;
  readonly #keys: PoolKeys;

  constructor(redis: Redis, pool: string) {
    this.#redis = redis;
    this.#keys = keysOf(pool);
  }

  /** Keeps it for `seconds`, which must outlive every deadline and retry. */
  async write(bundleId: string, index: number, bytes: Uint8Array, seconds: number): Promise<void> {
    await this.#redis.set(this.#keys.payload(bundleId, index), Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), 'EX', seconds);
  }

  async read(bundleId: string, index: number): Promise<Uint8Array | undefined> {
    return await this.#redis.getBuffer(this.#keys.payload(bundleId, index)) ?? undefined;
  }

  /** Frees the memory early; where that fails, the payload's own expiry does it. */
  remove(bundleId: string, index: number): void {
    this.#redis.unlink(this.#keys.payload(bundleId, index)).catch(() => { /* it expires */ });
  }
}
