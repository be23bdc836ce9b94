// Claims the jobs of one pool and lane, bundles and chunks of backfills, and hands them to their handlers.
import { type Bundle, type BundledPrediction, bundleFormat, type ChunkJob, type Lane, predictionsOf } from '@millrace/protocol';
import { type Job, WaitingError, Worker } from 'bullmq';
import type { Redis } from './connection.ts';
import { prefixOf } from './names.ts';

interface ClaimedJob {
  readonly jobId: string;
  /** Milliseconds since the epoch. */
  readonly claimedAt: number;
  /** Aborts when the claim is lost: its results may come too late. */
  readonly lost: AbortSignal;
}

export interface Claim extends ClaimedJob {
  /** The bundle that the predictions' ids name: a retry travels under another job. */
  readonly bundleId: string;
  readonly bundle: Bundle;
  readonly predictions: ReadonlyMap<number, BundledPrediction>;
  /** 1 unless it is a retry. */
  readonly attempt: number;
  /** True where another replica may have settled a part of it. */
  readonly claimedBefore: boolean;
  /** True where a replica lost it: most probably because it died. */
  readonly orphaned: boolean;
}

export interface ChunkClaim extends ClaimedJob {
  readonly job: ChunkJob;
  /** How many replicas have lost it: most probably because they died. */
  readonly losses: number;
}

/** What comes and has no handler is left for others. */
export interface Handlers {
  /** Resolves when every prediction of the bundle is settled; rejects with `HandBack` to return it. Anything else is tried again. */
  readonly bundle?: (claim: Claim) => Promise<void>;
  /** Likewise, when the chunk is settled. */
  readonly chunk?: (claim: ChunkClaim) => Promise<void>;
}

/** Thrown by a handler to give a claim back unfinished. */
export class HandBack extends Error {
  override readonly name = 'HandBack';
}

export interface ConsumerOptions {
  readonly redis: Redis;
  readonly pool: string;
  readonly lane: Lane;
  readonly handlers: Handlers;
  readonly onError: (error: Error) => void;
}

// An orphan of a killed replica is found by the first check after its lock is gone: within 12 + 4 s. A replica that hangs
// for less than half of the lock's time loses nothing.
export const lockMs = 12_000;
const stalledCheckMs = 4_000;
/** How often a bundle may lose its replica is our policy, not BullMQ's. */
const maxStalledCount = 1_000_000;
/** An idle worker asks again after this; also bounds how long a lost wake-up can hide work. */
const idlePollSeconds = 2;

/**
 * BullMQ claims one job after the other, and neither starts one nor renews its lock before it has as many as it may hold.
 * At 300 ms to Redis 128 bundles took 38 s, and other replicas had them meanwhile (docs/06-chaos.md). So no more are held
 * than can be claimed in this time, by the fastest of the last round trips.
 */
const claimingMs = 1000;
const probeEveryMs = 1000;
const probesKept = 3;

export class Consumer {
  readonly #redis: Redis;
  readonly #worker: Worker<Bundle | ChunkJob, null>;
  readonly #handlers: Handlers;
  #wanted = 1;
  #roundTripsMs: readonly number[] = [0];
  #prober: NodeJS.Timeout | undefined;

  constructor({ redis, pool, lane, handlers, onError }: ConsumerOptions) {
    this.#redis = redis;
    this.#handlers = handlers;
    // Three declared parameters make BullMQ create the abort signal.
    this.#worker = new Worker<Bundle | ChunkJob, null>(lane, (job, token, signal) => this.#process(job, token, signal), {
      prefix: prefixOf(pool),
      connection: redis,
      autorun: false,
      concurrency: 1,
      lockDuration: lockMs,
      stalledInterval: stalledCheckMs,
      maxStalledCount,
      drainDelay: idlePollSeconds,
      removeOnComplete: { count: 0 },
    });
    this.#worker.on('error', onError);
    this.#worker.on('lockRenewalFailed', (jobIds: string[]) => {
      for (const jobId of jobIds) this.#worker.cancelJob(jobId, 'the lock could not be renewed');
    });
  }

  /** How many bundles are held at once, at most; may change at any time. */
  set concurrency(bundles: number) {
    this.#wanted = bundles;
    const claimable = Math.floor(claimingMs / Math.min(...this.#roundTripsMs));
    this.#worker.concurrency = Math.min(bundles, Math.max(2, claimable));
  }

  start(): void {
    this.#prober = setInterval(() => this.#probe(), probeEveryMs);
    // Ends when the worker is closed; its errors come by the listener.
    void this.#worker.run();
  }

  /** Claims nothing more; what is claimed goes on. */
  async stopClaiming(): Promise<void> {
    await this.#worker.pause(true);
  }

  /** Waits for the claims that are held, then closes. */
  async close(): Promise<void> {
    clearInterval(this.#prober);
    await this.#worker.close();
  }

  #probe(): void {
    const startedAt = performance.now();
    this.#redis.ping().then(() => {
      this.#roundTripsMs = [...this.#roundTripsMs, performance.now() - startedAt].slice(-probesKept);
      this.concurrency = this.#wanted;
    }).catch(() => { /* it is away, and nothing is claimed */ });
  }

  async #process(job: Job<Bundle | ChunkJob, null>, token: string | undefined, signal: AbortSignal | undefined): Promise<null> {
    const { data } = job;
    if (data.format !== bundleFormat) throw new Error(`bundle format ${String(data.format)} is not known here`);
    try {
      await this.#hand(data, job, { jobId: job.id ?? '', claimedAt: Date.now(), lost: signal as AbortSignal });
      return null;
    } catch (error) {
      if (!(error instanceof HandBack)) throw error;
      await job.moveToWait(token);
      throw new WaitingError();
    }
  }

  async #hand(data: Bundle | ChunkJob, { attemptsStarted, stalledCounter }: Job, claimed: ClaimedJob): Promise<void> {
    const { bundle, chunk } = this.#handlers;
    if ('chunk' in data) return chunk ? chunk({ ...claimed, job: data, losses: stalledCounter }) : leave();
    await (bundle ?? leave)({
      ...claimed,
      bundleId: data.retry?.bundleId ?? claimed.jobId,
      bundle: data,
      predictions: predictionsOf(data),
      attempt: data.retry?.attempt ?? 1,
      claimedBefore: attemptsStarted > 1,
      orphaned: stalledCounter > 0,
    });
  }
}

/** It is tried again, after a while. */
async function leave(): Promise<never> {
  throw new Error('there is no handler here for such a job');
}
