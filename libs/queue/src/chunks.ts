// Chunks of backfills, in the bulk lane of their pool: queued by a coordinator, settled by workers, taken by the coordinator.
// Redis holds those of the window only.
import { bundleFormat, type ChunkJob, chunkJobId, type ChunkRef, type ChunkResult, type ModelVersionId, versionName } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { readRan } from './demand.ts';
import { costOf } from './demand-rates.ts';
import { keysOf, type PoolKeys } from './names.ts';
import { Queues } from './queues.ts';
import { Work } from './work.ts';

export type NewChunk = Pick<ChunkJob, 'tenant' | 'model' | 'priority' | 'chunk' | 'lastAttempt'>;

/** What is known of a chunk that is queued: its result, once it has one. */
export type QueuedChunk = ChunkResult | 'open';

/** Where nobody comes for a backfill's chunks any more, they are forgotten. */
const keptSeconds = 7 * 86_400;

/** The chunks of one pool's backfills. */
export class Chunks {
  readonly #redis: Redis;
  readonly #pool: string;
  readonly #keys: PoolKeys;
  readonly #queues: Queues;

  constructor(redis: Redis, pool: string) {
    this.#redis = redis;
    this.#pool = pool;
    this.#keys = keysOf(pool);
    this.#queues = new Queues(redis);
  }

  /** Queues a chunk, once however often it is asked for. One that is open and whose job is gone is queued again. */
  async add({ chunk, tenant, ...job }: NewChunk): Promise<void> {
    const { depth, bookings, work } = this.#keys;
    const jobId = chunkJobId(chunk);
    const open = await this.#redis.millraceBookChunk(
      depth, bookings, work, this.#keys.chunks(chunk.backfillId), chunkField(chunk), jobId, versionName(job.model), tenant, chunk.chunk.rows, keptSeconds,
    );
    if (!open) return;
    await this.#queues.add(this.#pool, { format: bundleFormat, tenant, ...job, lane: 'bulk', chunk }, { jobId });
  }

  /** Whether it still is to be run: it may have been settled by another worker, or its backfill may be canceled. */
  async isOpen(chunk: ChunkRef): Promise<boolean> {
    return isOpen(await this.#redis.hget(this.#keys.chunks(chunk.backfillId), chunkField(chunk)));
  }

  /** Writes what came of a chunk, and what running its rows has cost; the first write wins. */
  async settle(chunk: ChunkRef, result: ChunkResult, work = new Work()): Promise<boolean> {
    return this.#end(chunk.backfillId, chunkField(chunk), JSON.stringify(result), work);
  }

  /** What is known of these; undefined for one that is not queued. */
  async read(backfillId: string, chunks: readonly ChunkRef[]): Promise<(QueuedChunk | undefined)[]> {
    if (chunks.length === 0) return [];
    const values = await this.#redis.hmget(this.#keys.chunks(backfillId), ...chunks.map(chunkField));
    return values.map((value) => (typeof value !== 'string' ? undefined : isOpen(value) ? 'open' : JSON.parse(value) as ChunkResult));
  }

  /** How often each chunk of a round was queued, of those that are known: what a coordinator that died has left. */
  async attempts(backfillId: string, round: number): Promise<Map<number, number>> {
    const attempts = new Map<number, number>();
    for (const field of await this.#redis.hkeys(this.#keys.chunks(backfillId))) {
      const [index, ofRound, attempt] = field.split('-').map(Number) as [number, number, number];
      if (ofRound === round && !isMark(field)) attempts.set(index, Math.max(attempt, attempts.get(index) ?? 0));
    }
    return attempts;
  }

  /** Chunks of the bulk lane that workers have claimed, of all backfills. */
  async claimed(): Promise<number> {
    return this.#redis.llen(this.#keys.list('bulk', 'active'));
  }

  /** Says how many rows of a backfill are still to be queued, behind its chunks that are. It is to be said again every some seconds; 0 takes it back. */
  async tellToCome(backfillId: string, model: Pick<ModelVersionId, 'name' | 'version'>, rows: number): Promise<void> {
    await this.#redis.millraceToCome(this.#keys.toCome, backfillId, versionName(model), rows);
  }

  /** Seconds of an inference thread that a row takes; undefined where none ever ran. */
  async secondsPerRow(model: Pick<ModelVersionId, 'name' | 'version'>): Promise<number | undefined> {
    return costOf(undefined, await readRan(this.#redis, this.#pool, versionName(model)));
  }

  /** Forgets results that have been taken. */
  async forget(backfillId: string, chunks: readonly ChunkRef[]): Promise<void> {
    if (chunks.length > 0) await this.#redis.hdel(this.#keys.chunks(backfillId), ...chunks.map(chunkField));
  }

  /** Takes back what no worker has claimed. True where nothing of it is claimed: then all of it is forgotten. */
  async drain(backfillId: string): Promise<boolean> {
    const fields = await this.#redis.hgetall(this.#keys.chunks(backfillId));
    let claimed = 0;
    for (const [field, value] of Object.entries(fields)) {
      if (!isOpen(value)) continue;
      if (await this.#queues.remove(this.#pool, 'bulk', `${backfillId}-${field}`)) await this.#end(backfillId, field, '');
      else claimed++;
    }
    if (claimed === 0) await this.#redis.unlink(this.#keys.chunks(backfillId));
    return claimed === 0;
  }

  async close(): Promise<void> {
    await this.#queues.close();
  }

  async #end(backfillId: string, field: string, result: string, work = new Work()): Promise<boolean> {
    const { depth, bookings, work: counts } = this.#keys;
    return await this.#redis.millraceSettleChunk(depth, bookings, counts, this.#keys.chunks(backfillId), field, `${backfillId}-${field}`, result, ...work.take()) === 1;
  }
}

/** A job's name without its backfill: its field among the backfill's chunks. */
export function chunkField(chunk: ChunkRef): string {
  return chunkJobId(chunk).slice(chunk.backfillId.length + 1);
}

/** The fields beside a chunk's own (chunk-marks.ts). */
function isMark(field: string): boolean {
  return field.includes(':');
}

/** As book-chunk.lua writes it. */
function isOpen(value: string | null): boolean {
  return value === 'open';
}
