// Whether a prediction may be queued: decided in memory, from what Redis last said and what was let in here since.
import { type Lane, MillraceError } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { type Demand, readDemand } from './demand.ts';
import { type DemandRates, DemandSampler } from './demand-rates.ts';
import { DrainRate } from './drain-rate.ts';
import { type MemoryUse, readMemory } from './memory.ts';
import { backfillsPool } from './names.ts';
import { readResultsQueue, type ResultsQueue } from './results-queue.ts';

/** Rows of one lane that may be accepted and not settled. */
export interface AdmissionLimits {
  readonly maxQueuedRows: number;
  readonly maxQueuedRowsPerTenant: number;
}

export interface AdmissionOptions {
  readonly redis: Redis;
  readonly pools: () => Iterable<string>;
  readonly limits: AdmissionLimits;
  readonly onError: (error: unknown) => void;
}

/** What asks to be let in. */
export interface Entrant {
  readonly pool: string;
  readonly lane: Lane;
  readonly tenant: string;
  readonly rows: number;
  /** About what Redis will need for it. */
  readonly bytes: number;
  readonly deadlineMs?: number | undefined;
}

/** What is known of a pool. */
export interface PoolLoad {
  readonly demand: Demand;
  readonly rates: DemandRates;
  readonly drain: DrainRate;
  readonly sampler: DemandSampler;
}

const pollMs = 500;
/** What is older does not count as known; `admit` goes by it all the same. */
const staleMs = 5000;
/** The rest is for results: they must fit in while the queue is full. */
const memoryShare = 0.9;

export class Admission {
  readonly #options: AdmissionOptions;
  readonly #pools = new Map<string, PoolLoad>();
  #memory: MemoryUse = { usedBytes: 0, maxBytes: 0 };
  #readAt = -Infinity;
  #results: ReadonlyMap<string, ResultsQueue> = new Map();
  /** Let in before and since the poll under way began: no reading shows them yet. */
  #before = new Map<string, number>();
  #since = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #polling: Promise<void> | undefined;
  #stopped = false;
  #failing = false;

  constructor(options: AdmissionOptions) {
    this.#options = options;
  }

  get limits(): AdmissionLimits {
    return this.#options.limits;
  }

  /** What Redis said last; empty where that is long ago. */
  get pools(): ReadonlyMap<string, PoolLoad> {
    return performance.now() - this.#readAt < staleMs ? this.#pools : new Map();
  }

  /** Likewise, of each pool and of backfills. */
  get results(): ReadonlyMap<string, ResultsQueue> {
    return performance.now() - this.#readAt < staleMs ? this.#results : new Map();
  }

  /** What Redis said last of its memory; undefined where that is long ago. */
  get memory(): (MemoryUse & { readonly refusedFromBytes: number }) | undefined {
    return performance.now() - this.#readAt < staleMs ? { ...this.#memory, refusedFromBytes: memoryShare * this.#memory.maxBytes } : undefined;
  }

  /** Resolves after the first reading. */
  async start(): Promise<void> {
    this.#polling = this.#poll();
    await this.#polling;
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#polling;
  }

  /**
   * Lets it in, or throws `queue-full`, `tenant-queue-full`, `queue-memory` or `deadline-unmeetable` with the time after
   * which trying again makes sense.
   */
  admit(entrant: Entrant): void {
    const load = this.#pools.get(entrant.pool);
    if (load) {
      this.#checkRows(entrant, load);
      this.#checkMemory(entrant, load);
      this.#checkDeadline(entrant, load);
    }
    const { rows, bytes } = entrant;
    for (const [key, amount] of [[laneKey(entrant), rows], [tenantKey(entrant), rows], ['bytes', bytes]] as const) {
      this.#since.set(key, (this.#since.get(key) ?? 0) + amount);
    }
  }

  #checkRows(entrant: Entrant, { demand, drain }: PoolLoad): void {
    const { maxQueuedRows, maxQueuedRowsPerTenant } = this.#options.limits;
    const { pool, lane, tenant, rows } = entrant;
    const inLane = demand.lanes[lane].rows + this.#unread(laneKey(entrant));
    if (inLane > 0 && inLane + rows > maxQueuedRows) {
      const retryAfterSeconds = drain.retryAfterSeconds(inLane + rows - maxQueuedRows);
      throw new MillraceError('queue-full', `${inLane} rows wait in the pool "${pool}", which holds ${maxQueuedRows}`, { retryAfterSeconds });
    }
    const ofTenant = (demand.lanes[lane].tenants.get(tenant) ?? 0) + this.#unread(tenantKey(entrant));
    if (ofTenant > 0 && ofTenant + rows > maxQueuedRowsPerTenant) {
      // Others' rows drain between its own.
      const share = ofTenant / Math.max(inLane, ofTenant);
      const detail = `${ofTenant} rows of yours wait in the pool "${pool}", which holds ${maxQueuedRowsPerTenant} of each tenant`;
      throw new MillraceError('tenant-queue-full', detail, { retryAfterSeconds: drain.retryAfterSeconds((ofTenant + rows - maxQueuedRowsPerTenant) / share) });
    }
  }

  #checkMemory(entrant: Entrant, { demand, drain }: PoolLoad): void {
    const { usedBytes, maxBytes } = this.#memory;
    const used = usedBytes + this.#unread('bytes') + entrant.bytes;
    const excess = used - memoryShare * maxBytes;
    if (maxBytes === 0 || excess <= 0) return;
    const rowsOfExcess = demand.lanes[entrant.lane].rows * excess / used;
    const detail = `Redis uses ${Math.floor(100 * used / maxBytes)} % of its memory; from ${100 * memoryShare} % on nothing more is queued, so that results find room`;
    throw new MillraceError('queue-memory', detail, { retryAfterSeconds: drain.retryAfterSeconds(rowsOfExcess) });
  }

  /** A wait shorter than the time between two readings may be over already, so nobody is refused for it. */
  #checkDeadline(entrant: Entrant, { demand, drain }: PoolLoad): void {
    const { lane, deadlineMs } = entrant;
    if (deadlineMs === undefined || drain.rowsPerSecond === undefined) return;
    const ahead = demand.lanes[lane].rows + this.#unread(laneKey(entrant));
    const waitMs = 1000 * ahead / drain.rowsPerSecond;
    if (waitMs <= Math.max(deadlineMs, pollMs)) return;
    const detail = `${ahead} rows wait before it, and the workers do ${Math.round(drain.rowsPerSecond)} a second: it would not start within ${deadlineMs} ms`;
    throw new MillraceError('deadline-unmeetable', detail, { retryAfterSeconds: drain.retryAfterSeconds(ahead - deadlineMs / 1000 * drain.rowsPerSecond) });
  }

  #unread(key: string): number {
    return (this.#before.get(key) ?? 0) + (this.#since.get(key) ?? 0);
  }

  async #poll(): Promise<void> {
    const { redis, pools, onError } = this.#options;
    this.#before = this.#since;
    this.#since = new Map();
    try {
      const names = [...pools()];
      const [memory, results, ...demands] = await Promise.all([
        readMemory(redis),
        Promise.all([...names, backfillsPool].map(async (pool) => [pool, await readResultsQueue(redis, pool)] as const)),
        ...names.map((pool) => readDemand(redis, pool)),
      ]);
      this.#memory = memory;
      this.#readAt = performance.now();
      this.#results = new Map(results);
      for (const [place, pool] of names.entries()) this.#note(pool, demands[place] as Demand);
      this.#failing = false;
    } catch (error) {
      if (!this.#failing) onError(error);
      this.#failing = true;
    }
    this.#before = new Map();
    if (!this.#stopped) this.#timer = setTimeout(() => { this.#polling = this.#poll(); }, pollMs);
  }

  #note(pool: string, demand: Demand): void {
    const { drain, sampler } = this.#pools.get(pool) ?? { drain: new DrainRate(), sampler: new DemandSampler() };
    drain.note({ at: this.#readAt, rows: demand.lanes.online.rows + demand.lanes.bulk.rows, settled: demand.settledRows });
    this.#pools.set(pool, { demand, rates: sampler.note(demand), drain, sampler });
  }
}

function laneKey({ pool, lane }: Entrant): string {
  return `${pool}/${lane}`;
}

function tenantKey(entrant: Entrant): string {
  return `${laneKey(entrant)}/${entrant.tenant}`;
}
