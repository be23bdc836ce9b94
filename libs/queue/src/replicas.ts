// The live replicas of a pool: each is heard of once a second, and is gone when it was not for a while.
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

/** Before it claims, while it does, and while it ends what it holds. */
export const replicaStates = ['starting', 'ready', 'draining'] as const;
export type ReplicaState = (typeof replicaStates)[number];

export interface Replica {
  readonly id: string;
  readonly state: ReplicaState;
  /** Micro-batches that it runs at once. */
  readonly threads: number;
}

const beatMs = 1000;
export const goneMs = 5000;

/** One replica's own entry. */
export class Presence {
  readonly #redis: Redis;
  readonly #key: string;
  readonly #replica: string;
  readonly #threads: number;
  #state: ReplicaState = 'starting';
  #timer: NodeJS.Timeout | undefined;

  constructor(redis: Redis, { pool, replica, threads }: { readonly pool: string; readonly replica: string; readonly threads: number }) {
    this.#redis = redis;
    this.#key = keysOf(pool).replicas;
    this.#replica = replica;
    this.#threads = threads;
  }

  start(): void {
    this.#timer = setInterval(() => this.#beat(), beatMs);
    this.#beat();
  }

  become(state: ReplicaState): void {
    this.#state = state;
    this.#beat();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    // Where Redis is away it is soon not heard of.
    if (this.#redis.status === 'ready') await this.#redis.hdel(this.#key, this.#replica);
  }

  #beat(): void {
    if (this.#redis.status !== 'ready') return;
    this.#redis.millraceBeat(this.#key, this.#replica, this.#state, this.#threads).catch(() => { /* the next one follows */ });
  }
}

/** As beat.lua writes it. */
export function parseReplica(id: string, text: string): Replica {
  const [state, threads] = text.split(' ');
  return { id, state: state as ReplicaState, threads: Number(threads) };
}
