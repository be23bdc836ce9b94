// What is known of a chunk that replicas died with: what each was running alone when it was last heard of. Rows that are found
// in two such marks, the second time by themselves, are culprits.
import type { ChunkRef } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { chunkField } from './chunks.ts';
import { keysOf } from './names.ts';

/** Rows of a chunk: `from` up to `to`, counted from 0. */
export interface Span {
  readonly from: number;
  readonly to: number;
}

export interface Suspicion {
  /** A replica died while it ran these and nothing else. */
  readonly suspects: readonly Span[];
  /** Suspects that it died with once more, while it ran nothing beside them. */
  readonly culprits: readonly number[];
}

/** The marks of one pool's chunks, as one replica reads and writes them. */
export class ChunkMarks {
  readonly #redis: Redis;
  readonly #pool: string;
  readonly #replica: string;

  /** `replica`: unique over processes and their restarts. */
  constructor(redis: Redis, { pool, replica }: { readonly pool: string; readonly replica: string }) {
    this.#redis = redis;
    this.#pool = pool;
    this.#replica = replica;
  }

  /** How often an inference thread, and not its replica, has died with it. */
  async threadDeaths(chunk: ChunkRef): Promise<number> {
    return Number(await this.#redis.hget(this.#key(chunk), field(chunk, 'deaths')) ?? 0);
  }

  /** `alone`: what it ran, where that was nothing else. */
  async threadDied(chunk: ChunkRef, alone?: Span): Promise<void> {
    await this.#redis.hincrby(this.#key(chunk), field(chunk, 'deaths'), 1);
    if (alone) await this.#suspect(chunk, alone, await this.#redis.hget(this.#key(chunk), field(chunk, 'suspicion')));
  }

  /** What is known by now, the last replica's mark included. */
  async read(chunk: ChunkRef): Promise<Suspicion> {
    const [known, mark] = await this.#redis.hmget(this.#key(chunk), field(chunk, 'suspicion'), field(chunk, 'running'));
    if (typeof mark !== 'string') return suspicionOf(known);
    const { replica, from, to } = JSON.parse(mark) as Span & { readonly replica: string };
    if (replica === this.#replica) return suspicionOf(known);
    const found = await this.#suspect(chunk, { from, to }, known);
    await this.ran(chunk);
    return found;
  }

  /** Resolves once Redis knows that this replica runs the rows, and nothing beside them. */
  async running(chunk: ChunkRef, { from, to }: Span): Promise<void> {
    await this.#redis.hset(this.#key(chunk), field(chunk, 'running'), JSON.stringify({ replica: this.#replica, from, to }));
  }

  /** The run has ended and the replica lives. */
  async ran(chunk: ChunkRef): Promise<void> {
    await this.#redis.hdel(this.#key(chunk), field(chunk, 'running'));
  }

  async #suspect(chunk: ChunkRef, span: Span, known: string | null | undefined): Promise<Suspicion> {
    const { suspects, culprits } = suspicionOf(known);
    const again = suspects.some(({ from, to }) => from <= span.from && span.to <= to);
    const found: Suspicion = again && span.to - span.from === 1 ? { suspects, culprits: [...culprits, span.from] } : { suspects: [...suspects, span], culprits };
    await this.#redis.hset(this.#key(chunk), field(chunk, 'suspicion'), JSON.stringify(found));
    return found;
  }

  #key({ backfillId }: ChunkRef): string {
    return keysOf(this.#pool).chunks(backfillId);
  }
}

function suspicionOf(known: string | null | undefined): Suspicion {
  return typeof known === 'string' ? JSON.parse(known) as Suspicion : { suspects: [], culprits: [] };
}

/** Settling removes them (settle-chunk.lua). */
function field(chunk: ChunkRef, mark: 'deaths' | 'suspicion' | 'running'): string {
  return `${chunkField(chunk)}:${mark}`;
}
