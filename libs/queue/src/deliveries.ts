// Deliveries in Redis: who is told of what, every attempt of it, and what is due. A lease keeps a claimed one from other
// dispatchers; whatever dies meanwhile, it becomes due again (docs/decisions/0010).
import { earliestDeliveryId, type DeliveryState, deliveryId, type EventType, type TraceHeaders } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { deliveryKeys } from './names.ts';

export type Target =
  | { readonly kind: 'webhook'; readonly url: string; readonly endpointId?: string }
  | { readonly kind: 'reply-queue'; readonly queue: string };

/** One try of a delivery. Times are milliseconds. */
export interface Attempt {
  readonly at: number;
  readonly durationMs: number;
  /** Of the answer, where there was one. */
  readonly status?: number;
  readonly error?: string;
  readonly excerpt?: string;
}

/** A delivery as it is kept, without its body. */
export interface DeliveryRecord {
  readonly id: string;
  readonly tenant: string;
  readonly eventId: string;
  readonly event: EventType;
  readonly predictionId?: string | undefined;
  readonly backfillId?: string | undefined;
  readonly target: Target;
  readonly status: DeliveryState;
  /** When the event was, milliseconds since the epoch. */
  readonly createdAt: number;
  readonly nextAttemptAt?: number | undefined;
  /** Why it is dead. */
  readonly reason?: string | undefined;
  /** The last ones, oldest first. */
  readonly attempts: readonly Attempt[];
  /** Attempts since it was first sent, or sent again: the place in the schedule. */
  readonly tries: number;
  readonly trace?: TraceHeaders | undefined;
}

export interface NewDelivery {
  readonly tenant: string;
  readonly eventId: string;
  readonly event: EventType;
  readonly predictionId?: string;
  readonly backfillId?: string;
  readonly target: Target;
  /** When the event was, milliseconds since the epoch. */
  readonly at: number;
  readonly body: string;
  /** Why it is dead from the start. */
  readonly reason?: string;
  readonly trace?: TraceHeaders | undefined;
}

/** A delivery that Redis does not know of yet. */
export interface UnwrittenDelivery {
  readonly record: DeliveryRecord;
  readonly body: string;
  /** It is being tried: it will be claimed. */
  readonly running?: boolean;
  /** It was tried, and is due again in so many milliseconds. */
  readonly waitMs?: number | undefined;
}

/** Nobody else is given what is leased. */
export interface Lease {
  /** What proves the claim. */
  readonly lease: string;
  /** Until when this process may rely on it, on the clock of `performance.now()`. */
  readonly leaseEndsAt: number;
}

export interface ClaimedDelivery extends Lease {
  readonly record: DeliveryRecord;
  readonly body: string;
  readonly host: string;
}

/** How an attempt left a delivery; `waitMs` until the next one, where there is one. */
export interface Finished {
  readonly claimed: ClaimedDelivery;
  readonly record: DeliveryRecord;
  readonly waitMs?: number | undefined;
}

export interface DeliveryQuery {
  readonly tenant: string;
  /** Reads the index of the dead ones only. */
  readonly dead?: boolean;
  readonly matches: (record: DeliveryRecord) => boolean;
  /** Goes on after this id. */
  readonly after?: string | undefined;
  /** Events from this time on, and before that one (milliseconds since the epoch). */
  readonly since?: number | undefined;
  readonly until?: number | undefined;
  readonly limit: number;
}

export interface DeliveryPage {
  readonly deliveries: readonly DeliveryRecord[];
  /** Where to go on; undefined at the end. */
  readonly next: string | undefined;
  /** How many were looked at. */
  readonly seen: number;
}

const attemptsKept = 20;
/** What has arrived is only of interest for a while: it is kept for a day at most, what is dead as long as the settings say. */
const deliveredSeconds = 86_400;
/** Redis does nothing else while it takes them on or writes down how they ended, for about 15 µs each. */
const writtenAtOnce = 256;
const readAtOnce = 200;
/** A page ends after so many, short or empty, so that a rare filter costs no long request. */
const readPerPage = 4000;

export class DeliveryStore {
  readonly #redis: Redis;
  readonly #retentionSeconds: number;
  readonly #leaseMs: number;

  /** `retentionSeconds`: how long a delivery is kept after its end. `leaseMs`: longer than an attempt of whoever claims here may take. */
  constructor(redis: Redis, retentionSeconds: number, leaseMs = 60_000) {
    this.#redis = redis;
    this.#retentionSeconds = retentionSeconds;
    this.#leaseMs = leaseMs;
  }

  get #deliveredSeconds(): number {
    return Math.min(deliveredSeconds, this.#retentionSeconds);
  }

  /** The id before which the indexes forget. */
  get #forgetBefore(): string {
    return earliestDeliveryId(Date.now() - 1000 * this.#retentionSeconds);
  }

  /** Takes deliveries on, each once; returns those that were new. */
  async add(deliveries: readonly NewDelivery[]): Promise<readonly DeliveryRecord[]> {
    const unwritten = deliveries.map(unwrittenOf);
    const written = await this.write(unwritten);
    return unwritten.flatMap(({ record }) => (written.delete(record.id) ? [record] : []));
  }

  /** Writes down deliveries that are new; gives these by id, with the lease of those that are being tried. */
  async write(deliveries: readonly UnwrittenDelivery[]): Promise<Map<string, Lease>> {
    const written = new Map<string, Lease>();
    for (let at = 0; at < deliveries.length; at += writtenAtOnce) {
      const leaseEndsAt = performance.now() + this.#leaseMs;
      const [lease = '', ...ids] = await this.#redis.millraceDeliver(
        deliveryKeys.hosts, deliveryKeys.holds, deliveryKeys.prefix, this.#retentionSeconds, this.#deliveredSeconds, this.#forgetBefore, this.#leaseMs,
        ...deliveries.slice(at, at + writtenAtOnce).flatMap((one) => [one.record.id, one.record.tenant, hostOf(one.record), JSON.stringify(one.record), one.body, standingOf(one)]),
      );
      for (const id of ids) written.set(id, { lease, leaseEndsAt });
    }
    return written;
  }

  /** Hosts for which something is due, the longest waiting first, without so many of them. */
  async dueHosts(without: number, limit: number): Promise<string[]> {
    const [seconds, microseconds] = await this.#redis.time();
    return this.#redis.zrangebyscore(deliveryKeys.hosts, '-inf', 1000 * Number(seconds) + Math.floor(Number(microseconds) / 1000), 'LIMIT', without, limit);
  }

  /** Claims what is due for a host. */
  async claim(host: string, count: number): Promise<ClaimedDelivery[]> {
    const leaseEndsAt = performance.now() + this.#leaseMs;
    const [lease = '', ...flat] = await this.#redis.millraceClaim(deliveryKeys.hosts, deliveryKeys.holds, deliveryKeys.prefix, host, this.#leaseMs, count);
    const claimed: ClaimedDelivery[] = [];
    for (let at = 0; at < flat.length; at += 3) {
      claimed.push({ record: JSON.parse(flat[at + 1] as string) as DeliveryRecord, body: flat[at + 2] as string, host, lease, leaseEndsAt });
    }
    return claimed;
  }

  /** Writes down how attempts ended. */
  async finish(finished: readonly Finished[]): Promise<void> {
    for (let at = 0; at < finished.length; at += writtenAtOnce) await this.#finish(finished.slice(at, at + writtenAtOnce));
  }

  async #finish(finished: readonly Finished[]): Promise<void> {
    await this.#redis.millraceFinish(deliveryKeys.hosts, deliveryKeys.holds, deliveryKeys.prefix, this.#forgetBefore, ...finished.flatMap(({ claimed: { lease, host }, record, waitMs }) => {
      const wait = record.status === 'dead' ? 'dead' : (waitMs ?? '');
      const kept = { ...record, attempts: record.attempts.slice(-attemptsKept) };
      const seconds = record.status === 'delivered' ? this.#deliveredSeconds : this.#retentionSeconds;
      return [record.id, record.tenant, host, lease, JSON.stringify(kept), wait, hostOf(record), seconds];
    }));
  }

  /** Leaves a host alone for a while. */
  async hold(host: string, ms: number): Promise<void> {
    await this.#redis.millraceHold(deliveryKeys.hosts, deliveryKeys.holds, host, Math.ceil(ms));
  }

  /** Sends deliveries again that have ended; returns those that could be. */
  async redeliver(records: readonly DeliveryRecord[]): Promise<DeliveryRecord[]> {
    const again = records.filter(({ status }) => status !== 'pending').map((record) => {
      const next: DeliveryRecord = { ...record, status: 'pending', reason: undefined, nextAttemptAt: Date.now(), tries: 0 };
      return { record, next };
    });
    if (again.length === 0) return [];
    const taken = new Set(await this.#redis.millraceRedeliver(deliveryKeys.hosts, deliveryKeys.holds, deliveryKeys.prefix, ...again.flatMap(({ record, next }) =>
      [record.id, record.tenant, hostOf(record), JSON.stringify(record), JSON.stringify(next)])));
    return again.flatMap(({ next }) => (taken.has(next.id) ? [next] : []));
  }

  /** The tenant's delivery of this id; undefined where there is none. */
  async find(id: string, tenant: string): Promise<DeliveryRecord | undefined> {
    const state = await this.#redis.hget(deliveryKeys.delivery(id), 'state');
    const record = state === null ? undefined : JSON.parse(state) as DeliveryRecord;
    return record?.tenant === tenant ? record : undefined;
  }

  /** One page of them, newest first. */
  async list({ tenant, dead = false, matches, after, since = 0, until, limit }: DeliveryQuery): Promise<DeliveryPage> {
    const index = dead ? deliveryKeys.dead(tenant) : deliveryKeys.index(tenant);
    const deliveries: DeliveryRecord[] = [];
    let next = after;
    let seen = 0;
    while (seen < readPerPage) {
      const newest = until === undefined ? '+' : `(${earliestDeliveryId(until)}`;
      const ids = await this.#redis.zrevrangebylex(index, next === undefined ? newest : `(${next}`, `[${earliestDeliveryId(since)}`, 'LIMIT', 0, readAtOnce);
      const states = await Promise.all(ids.map((id) => this.#redis.hget(deliveryKeys.delivery(id), 'state')));
      for (const [place, id] of ids.entries()) {
        if (deliveries.length === limit) return { deliveries, next, seen };
        next = id;
        seen++;
        const record = states[place] ? JSON.parse(states[place]) as DeliveryRecord : undefined;
        if (record && matches(record)) deliveries.push(record);
      }
      if (ids.length < readAtOnce) return { deliveries, next: undefined, seen };
    }
    return { deliveries, next, seen };
  }
}

/** What a new delivery is before anything was done about it. */
export function unwrittenOf({ tenant, eventId, event, predictionId, backfillId, target, at, body, reason, trace }: NewDelivery): UnwrittenDelivery {
  const record: DeliveryRecord = {
    id: deliveryId(eventId, targetKey(target), at), tenant, eventId, event, predictionId, backfillId, target, createdAt: at, attempts: [], tries: 0, ...(trace && { trace }),
    ...(reason === undefined ? { status: 'pending', nextAttemptAt: at } : { status: 'dead', reason }),
  };
  return { record, body };
}

/** In the words of deliver.lua. */
function standingOf({ record: { status }, running, waitMs }: UnwrittenDelivery): string | number {
  if (status !== 'pending') return status;
  return waitMs ?? (running ? 'leased' : 'due');
}

/** Tells the targets of one event apart. An endpoint stays the same when its URL changes. */
function targetKey(target: Target): string {
  return target.kind === 'reply-queue' ? `queue ${target.queue}` : target.endpointId ?? 'webhook';
}

/** What is left alone together when it does not answer: scheme, name and port, or a reply queue. */
export function hostOf({ tenant, target }: Pick<DeliveryRecord, 'tenant' | 'target'>): string {
  return target.kind === 'reply-queue' ? `queue:${tenant}/${target.queue}` : new URL(target.url).origin;
}
