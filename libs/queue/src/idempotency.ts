// Idempotency keys: a repeated submission leads to the prediction or backfill that the first one made.
import { createHash } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { parsePredictionId } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { lookup } from './lookup.ts';
import { idempotencyKey } from './names.ts';

export interface Reservation {
  readonly key: string;
  /** Of the whole request: the same key with another one is a mistake. */
  readonly fingerprint: string;
  /** An id that the key was tied to, and that never became a prediction. */
  readonly insteadOf?: string;
}

export type Reserved =
  | { readonly kind: 'reserved' }
  | { readonly kind: 'mismatch' }
  | ({ readonly kind: 'taken' } & Taken);

/** What a key was tied to before; `ageMs` since then. */
export interface Taken {
  readonly id: string;
  readonly ageMs: number;
}

/**
 * A key is tied and its prediction or backfill added within two command timeouts of 5 s, or its connection is given up within a second
 * more, and nothing is sent again (connection.ts). What was tied longer ago is queued or never will be.
 */
const underWayMs = 12_000;
const lookEveryMs = 50;

export class IdempotencyKeys {
  readonly #redis: Redis;
  readonly #seconds: number;

  /** `seconds`: how long a key is remembered; results must be kept as long. */
  constructor(redis: Redis, seconds: number) {
    this.#redis = redis;
    this.#seconds = seconds;
  }

  /** Ties the key to what is about to be made. */
  async reserve(tenant: string, { key, fingerprint, insteadOf = '' }: Reservation, id: string): Promise<Reserved> {
    const [kind, takenId = '', ageMs = 0] = await this.#redis.millraceReserve(keyOf(tenant, key), fingerprint, id, this.#seconds, insteadOf);
    return kind === 'taken' ? { kind, id: takenId, ageMs } : { kind };
  }

  /** Whether a taken id is a prediction; waits for one that may still be on its way to Redis. */
  async isAccepted(taken: Taken, tenant: string): Promise<boolean> {
    const address = parsePredictionId(taken.id);
    const found = address && await this.made(taken, () => lookup(this.#redis, address, tenant));
    return found !== undefined;
  }

  /** What was made under a taken id; undefined where nothing was. Waits for what may still be on its way to Redis. */
  async made<Made>({ ageMs }: Taken, find: () => Promise<Made | undefined>): Promise<Made | undefined> {
    const until = Date.now() + underWayMs - ageMs;
    for (;;) {
      const found = await find();
      if (found !== undefined || Date.now() > until) return found;
      await delay(lookEveryMs);
    }
  }
}

function keyOf(tenant: string, key: string): string {
  return idempotencyKey(tenant, createHash('sha256').update(key).digest('base64url'));
}
