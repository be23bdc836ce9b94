// Takes a backfill's chunks through the bulk lane: a window of them at a time, each until it has its part.
import { setTimeout as delay } from 'node:timers/promises';
import { type Chunk, type ChunkRef, type ErrorCode, errorCatalogue, MillraceError } from '@millrace/protocol';
import type { Chunks, NewChunk } from '@millrace/queue';

export interface ChunkFeedOptions {
  readonly chunks: Chunks;
  readonly backfillId: string;
  readonly round: number;
  readonly job: Pick<NewChunk, 'tenant' | 'model' | 'priority'>;
  readonly maxAttempts: number;
  /** By chunk: the attempt that a coordinator before this one had queued. */
  readonly attempts: ReadonlyMap<number, number>;
  /** The chunk's part is written. */
  readonly onDone: (chunk: Chunk, rows: { readonly done: number; readonly failed: number }) => void;
  readonly onRetry: (chunk: Chunk, code: ErrorCode) => void;
}

/** A chunk that is queued, or waits to be queued again. */
interface Flight {
  readonly ref: ChunkRef;
  /** On the clock of `performance.now()`. */
  readonly notBefore: number;
  queuedAt: number | undefined;
}

/** Results are looked for the less often, the longer none comes: chunks take from some milliseconds to minutes. */
const pollMs = { first: 20, longest: 250 } as const;
/** At least so many are queued: two workers that begin have something to run, to read and to write. */
const leastWindow = 8;
const mostWindow = 1024;
/** One that is open for so long may have lost its job: Redis may forget the last second. It is asked for again, in vain mostly. */
const renewMs = 15_000;
const firstDelayMs = 1000;
const longestDelayMs = 60_000;

export class ChunkFeed {
  readonly #options: ChunkFeedOptions;
  readonly #flights = new Map<number, Flight>();
  #ready: Chunk[] = [];
  /** How many of these have been taken. */
  #taken = 0;
  #complete = false;

  constructor(options: ChunkFeedOptions) {
    this.#options = options;
  }

  /** To be run when its turn comes. */
  add(chunk: Chunk): void {
    this.#ready.push(chunk);
  }

  /** Added, and not queued yet. */
  get waiting(): number {
    return this.#ready.length - this.#taken;
  }

  /** Added, and without a part. */
  get open(): number {
    return this.waiting + this.#flights.size;
  }

  /** Of the chunks that are queued, or were and will be again. */
  get queuedRows(): number {
    return [...this.#flights.values()].reduce((sum, { ref: { chunk } }) => sum + chunk.rows, 0);
  }

  /** No more will be added. */
  complete(): void {
    this.#complete = true;
  }

  /** Resolves when all chunks have their parts. Rejects with the failure of one that does not pass, or the signal's reason. */
  async run(signal: AbortSignal): Promise<void> {
    let waitMs: number = pollMs.first;
    while (!this.#complete || this.#flights.size > 0 || this.#taken < this.#ready.length) {
      const moved = await this.#takeResults() + await this.#fill();
      waitMs = moved > 0 ? pollMs.first : Math.min(pollMs.longest, 2 * waitMs);
      await delay(waitMs, undefined, { signal });
    }
  }

  /** How many were there. */
  async #takeResults(): Promise<number> {
    const { chunks, backfillId, onDone } = this.#options;
    const queued = [...this.#flights.values()].filter(({ queuedAt }) => queuedAt !== undefined);
    const found = await chunks.read(backfillId, queued.map(({ ref }) => ref));
    const taken: ChunkRef[] = [];
    for (const [place, flight] of queued.entries()) {
      const { ref } = flight;
      const result = found[place];
      if (result === 'open') continue;
      this.#flights.delete(ref.chunk.index);
      if (result) taken.push(ref);
      if (result?.ok) onDone(ref.chunk, result);
      else this.#again(ref, result);
    }
    await chunks.forget(backfillId, taken);
    return taken.length;
  }

  /** Queues a chunk again that failed for a reason that may pass; without a failure, Redis has lost it. Throws any other failure. */
  #again(ref: ChunkRef, failure: { readonly code: ErrorCode; readonly detail: string } | undefined): void {
    const { maxAttempts, onRetry } = this.#options;
    const { chunk, attempt } = ref;
    if (failure) {
      if (!errorCatalogue[failure.code].retryable || attempt >= maxAttempts) throw new MillraceError(failure.code, failure.detail);
      onRetry(chunk, failure.code);
    }
    const delayMs = failure ? Math.min(longestDelayMs, firstDelayMs * 2 ** (attempt - 1)) * (1 - Math.random() / 2) : 0;
    this.#flights.set(chunk.index, { ref: { ...ref, attempt: failure ? attempt + 1 : attempt }, notBefore: performance.now() + delayMs, queuedAt: undefined });
  }

  /** How many were queued. */
  async #fill(): Promise<number> {
    const { chunks, backfillId, round, attempts } = this.#options;
    const window = Math.min(mostWindow, Math.max(leastWindow, 2 * await chunks.claimed() + leastWindow));
    while (this.#flights.size < window && this.#taken < this.#ready.length) {
      const chunk = this.#ready[this.#taken++] as Chunk;
      const ref: ChunkRef = { backfillId, chunk, round, attempt: attempts.get(chunk.index) ?? 1 };
      this.#flights.set(chunk.index, { ref, notBefore: 0, queuedAt: undefined });
    }
    const now = performance.now();
    const due = [...this.#flights.values()].filter(({ queuedAt, notBefore }) => (queuedAt === undefined ? notBefore <= now : queuedAt < now - renewMs));
    await Promise.all(due.map((flight) => this.#queue(flight, now)));
    if (this.#taken > 1000) {
      this.#ready = this.#ready.slice(this.#taken);
      this.#taken = 0;
    }
    return due.length;
  }

  async #queue(flight: Flight, now: number): Promise<void> {
    const { chunks, job, maxAttempts } = this.#options;
    await chunks.add({ ...job, chunk: flight.ref, lastAttempt: flight.ref.attempt >= maxAttempts });
    flight.queuedAt = now;
  }
}
