// API keys in Redis. Of a key's text only the digest is kept.
import { type ApiKey, keyDigest, newKeyText, readKeyId } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { apiKeysKey } from './names.ts';

/** A key as it is kept. */
export interface StoredKey extends ApiKey {
  /** SHA-256 of the key's text, hex. */
  readonly digest: string;
}

export type NewKey = Pick<ApiKey, 'tenant' | 'name' | 'scopes' | 'expiresAt' | 'limits'>;

export class KeyStore {
  readonly #redis: Redis;

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** Makes a key. Its text is in what this returns, and nowhere else. */
  async create(wanted: NewKey, createdAt: number): Promise<{ key: ApiKey; text: string }> {
    const text = newKeyText();
    const id = readKeyId(text) as string;
    const key: ApiKey = { id, ...wanted, createdAt };
    const stored: StoredKey = { ...key, digest: keyDigest(text).toString('hex') };
    await this.#redis.hset(apiKeysKey, id, JSON.stringify(stored));
    return { key, text };
  }

  /** Every key there ever was, the oldest first. */
  async list(): Promise<ApiKey[]> {
    const stored = Object.values(await this.#redis.hgetall(apiKeysKey)).map(readKey);
    return stored.map(withoutDigest).sort((a, b) => a.createdAt - b.createdAt);
  }

  /** Ends a key for good, and keeps its record: a store that had a key once never counts as empty again. Undefined where there is none of this id. */
  async revoke(id: string, revokedAt: number): Promise<ApiKey | undefined> {
    const text = await this.#redis.hget(apiKeysKey, id);
    if (text === null) return undefined;
    const key = readKey(text);
    const revoked: StoredKey = { ...key, revokedAt: key.revokedAt ?? revokedAt };
    await this.#redis.hset(apiKeysKey, id, JSON.stringify(revoked));
    return withoutDigest(revoked);
  }
}

/** Reads a record of the hash. */
export function readKey(text: string): StoredKey {
  return JSON.parse(text) as StoredKey;
}

function withoutDigest(stored: StoredKey): ApiKey {
  const { digest: _, ...key } = stored;
  return key;
}
