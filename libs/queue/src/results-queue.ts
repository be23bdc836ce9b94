// The results queue: what happened and has to be told, written by the script that settles predictions (settle.lua) or writes how
// far a backfill is (backfill-write.lua), so that no event is lost between the two. A stream per pool and one for backfills, read
// by dispatchers as one consumer group (docs/decisions/0010).
import { setTimeout as delay } from 'node:timers/promises';
import { type BackfillHead, type Head, type Notify, predictionId } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { keysOf, poolsKey } from './names.ts';

/** Something that happened to a prediction. */
export interface PredictionResult {
  readonly kind: 'prediction';
  readonly pool: string;
  readonly tenant: string;
  readonly bundleId: string;
  readonly index: number;
  readonly predictionId: string;
  /** Whom the request named, beside those who listen to all of the tenant's. */
  readonly notify: Notify | undefined;
  readonly head: Head;
}

/** Something that happened to a backfill. */
export interface BackfillResult {
  readonly kind: 'backfill';
  readonly tenant: string;
  readonly head: BackfillHead;
}

export type ResultEvent = PredictionResult | BackfillResult;

export interface ResultsReaderOptions {
  /** A connection of its own: it is always inside a blocking read. */
  readonly blocking: Redis;
  readonly redis: Redis;
  readonly pool: string;
  /** Unique over processes and their restarts. */
  readonly consumer: string;
  /** Resolves when nothing of it can be lost any more; where it rejects, the events come again. `again`: they may have been told before. */
  readonly onEvents: (events: readonly ResultEvent[], again: boolean) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

const group = 'dispatchers';
const blockMs = 5000;
/** An entry has up to 64 events, and each of them may be told to 50 endpoints. */
const entriesPerRead = 16;
/** Entries that are being dealt with: receivers that take their time do not keep the next ones, and what is read is soon begun. */
const entriesAtOnce = 64;
/** What a dispatcher has not dealt with by then is another's: its own work takes far less. */
const abandonedMs = 15_000;
const rescueEveryMs = 5000;
const retryMs = 500;
/** Names of dispatchers that are gone are forgotten after this. */
const forgottenMs = 3_600_000;

type Entry = [id: string, fields: string[] | null];

export class ResultsReader {
  readonly #options: ResultsReaderOptions;
  readonly #queue: string;
  readonly #stopping = new AbortController();
  /** What is being dealt with, and how many entries it has. */
  readonly #handling = new Map<Promise<void>, number>();
  #running: Promise<unknown> | undefined;

  constructor(options: ResultsReaderOptions) {
    this.#options = options;
    this.#queue = keysOf(options.pool).resultsQueue;
  }

  /** Reads until it is stopped, however long Redis is away. */
  start(): void {
    this.#running = this.#makeGroup().catch(() => { /* the first step tells */ }).then(() => Promise.all([this.#loop(() => this.#read()), this.#loop(() => this.#rescue())]));
  }

  /** Resolves when what has been read is dealt with. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#options.blocking.disconnect();
    await this.#running;
    await Promise.all(this.#handling.keys());
  }

  async #loop(step: () => Promise<void>): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      try {
        await step();
      } catch (error) {
        if (this.#stopping.signal.aborted) return;
        this.#options.onError(error);
        await this.#pause(retryMs);
        // A Redis that has lost its data has lost the group too.
        await this.#makeGroup().catch(() => { /* the next step tells */ });
      }
    }
  }

  async #read(): Promise<void> {
    const { blocking, consumer } = this.#options;
    const streams = await blocking.xreadgroup('GROUP', group, consumer, 'COUNT', entriesPerRead, 'BLOCK', blockMs, 'STREAMS', this.#queue, '>');
    const entries = streams?.[0]?.[1] ?? [];
    const handling = this.#handle(entries).catch(this.#options.onError).finally(() => this.#handling.delete(handling));
    this.#handling.set(handling, entries.length);
    while (this.#handling.values().reduce((sum, count) => sum + count, 0) >= entriesAtOnce) await Promise.race(this.#handling.keys());
  }

  /** Takes over what a dispatcher that died had read. */
  async #rescue(): Promise<void> {
    await this.#pause(rescueEveryMs);
    if (this.#stopping.signal.aborted) return;
    const { redis, consumer } = this.#options;
    const [, entries] = await redis.xautoclaim(this.#queue, group, consumer, abandonedMs, '0-0', 'COUNT', entriesPerRead) as [string, Entry[]];
    await this.#handle(entries, true);
    for (const { name, pending, idle } of (await redis.xinfo('CONSUMERS', this.#queue, group) as unknown[]).map(consumerOf)) {
      if (pending === 0 && idle > forgottenMs) await redis.xgroup('DELCONSUMER', this.#queue, group, name);
    }
  }

  async #handle(entries: readonly Entry[], again = false): Promise<void> {
    if (entries.length === 0) return;
    const { redis, pool, onEvents, onError } = this.#options;
    try {
      await onEvents(entries.flatMap(([, fields]) => eventsOf(pool, fields ?? [])), again);
    } catch (error) {
      if (entries.length === 1) throw error;
      // One that cannot be dealt with comes again by itself, and does not keep its neighbours.
      for (const entry of entries) await this.#handle([entry], true).catch(onError);
      return;
    }
    const ids = entries.map(([id]) => id);
    // What is acknowledged is of no use to anybody else: there is one group.
    await redis.pipeline().xack(this.#queue, group, ...ids).xdel(this.#queue, ...ids).exec();
  }

  async #makeGroup(): Promise<void> {
    await this.#options.redis.xgroup('CREATE', this.#queue, group, '0', 'MKSTREAM').catch((error: Error) => {
      if (!error.message.startsWith('BUSYGROUP')) throw error;
    });
  }

  async #pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: this.#stopping.signal }).catch(() => { /* stopping */ });
  }
}

function eventsOf(pool: string, fields: readonly string[]): ResultEvent[] {
  const [, tenant = '', kind, bundleId = ''] = fields;
  if (kind === 'backfill') return [{ kind, tenant, head: JSON.parse(fields[5] as string) as BackfillHead }];
  const events: ResultEvent[] = [];
  for (let at = 4; at < fields.length; at += 2) {
    const index = Number(fields[at]);
    const [notify, head] = JSON.parse(fields[at + 1] as string) as [Notify | null, Head];
    events.push({ kind: 'prediction', pool, tenant, bundleId, index, predictionId: predictionId(bundleId, index), notify: notify ?? undefined, head });
  }
  return events;
}

function consumerOf(info: unknown): { name: string; pending: number; idle: number } {
  // A map in RESP3, a flat list in RESP2.
  const entries = Array.isArray(info) ? Array.from({ length: info.length / 2 }, (_, place) => [info[2 * place], info[2 * place + 1]]) : Object.entries(info as object);
  return Object.fromEntries(entries) as { name: string; pending: number; idle: number };
}

/** Tells that predictions of one bundle have begun to run. */
export async function tellStarted(redis: Redis, { pool, tenant, bundleId }: Pick<PredictionResult, 'pool' | 'tenant' | 'bundleId'>, started: readonly Pick<PredictionResult, 'index' | 'notify' | 'head'>[]): Promise<void> {
  const fields = started.flatMap(({ index, notify, head }) => [index, JSON.stringify([notify ?? null, head])]);
  await redis.xadd(keysOf(pool).resultsQueue, '*', 'tenant', tenant, 'bundle', bundleId, ...fields);
}

/** How many bundles' events wait for dispatchers, or are with one, and how old the oldest is. */
export interface ResultsQueue {
  readonly length: number;
  readonly oldestSeconds: number;
}

export async function readResultsQueue(redis: Redis, pool: string): Promise<ResultsQueue> {
  const queue = keysOf(pool).resultsQueue;
  const [length, first] = await Promise.all([redis.xlen(queue), redis.xrange(queue, '-', '+', 'COUNT', 1)]);
  const addedAt = Number(first[0]?.[0].split('-')[0] ?? Date.now());
  return { length, oldestSeconds: Math.max(0, Date.now() - addedAt) / 1000 };
}

/** Makes a pool known to dispatchers. */
export async function registerPool(redis: Redis, pool: string): Promise<void> {
  await redis.sadd(poolsKey, pool);
}

export async function readPools(redis: Redis): Promise<string[]> {
  return redis.smembers(poolsKey);
}
