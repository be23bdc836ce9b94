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
  readonly target: Target;
  /** When the event was, milliseconds since the epoch. */
  readonly at: number;
  readonly body: string;
  /** Why it is dead from the start. */
  readonly reason?: string;
  readonly trace?: TraceHeaders | undefined;
}

export interface ClaimedDelivery {
  readonly record: DeliveryRecord;
  readonly body: string;
  readonly host: string;
  /** What proves the claim. */
  readonly lease: string;
  /** Until when this process may rely on it, on the clock of `performance.now()`. */
  readonly leaseEndsAt: number;
}

/** What became of deliveries that were to be taken on. */
export interface Added {
  /** Those that were new. */
  readonly fresh: readonly DeliveryRecord[];
  /** Of these, those that were claimed at once. */
  readonly claimed: readonly ClaimedDelivery[];
  /** Hosts for which others of them are due. */
  readonly dueHosts: ReadonlySet<string>;
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

/** Longer than any attempt, and than what is claimed ahead may wait here: the dispatcher keeps to that. */
export const leaseMs = 60_000;
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

  /** `retentionSeconds`: how long a delivery is kept after its end. */
  constructor(redis: Redis, retentionSeconds: number) {
    this.#redis = redis;
    this.#retentionSeconds = retentionSeconds;
  }

  /** Takes deliveries on, each once; returns those that were new. */
  async add(deliveries: readonly NewDelivery[]): Promise<readonly DeliveryRecord[]> {
    return (await this.addAndClaim(deliveries, () => 0)).fresh;
  }

  /** The same, and claims new ones at once, as many for each host as there is room for. */
  async addAndClaim(deliveries: readonly NewDelivery[], roomFor: (host: string) => number): Promise<Added> {
    const room = new Map<string, number>();
    const wanted = (host: string): boolean => {
      const left = room.get(host) ?? roomFor(host);
      room.set(host, left - 1);
      return left > 0;
    };
    const added = { fresh: [] as DeliveryRecord[], claimed: [] as ClaimedDelivery[], dueHosts: new Set<string>() };
    for (let at = 0; at < deliveries.length; at += writtenAtOnce) {
      for (const { record, body, host, claim } of await this.#addSome(deliveries.slice(at, at + writtenAtOnce), wanted)) {
        added.fresh.push(record);
        if (claim) added.claimed.push({ record, body, host, ...claim });
        else if (host !== '') added.dueHosts.add(host);
      }
    }
    return added;
  }

  async #addSome(deliveries: readonly NewDelivery[], wanted: (host: string) => boolean) {
    const asked = deliveries.map((delivery) => {
      const record = recordOf(delivery);
      return { record, body: delivery.body, host: record.status === 'dead' ? '' : hostOf(record) };
    });
    const leaseEndsAt = performance.now() + leaseMs;
    const [lease = '', ...flat] = await this.#redis.millraceDeliver(
      deliveryKeys.hosts, deliveryKeys.holds, deliveryKeys.prefix, this.#retentionSeconds, earliestDeliveryId(Date.now() - 1000 * this.#retentionSeconds), leaseMs,
      ...asked.flatMap(({ record, body, host }) => [record.id, record.tenant, host, JSON.stringify(record), body, host !== '' && wanted(host) ? '1' : '']),
    );
    const fresh = new Map(Array.from({ length: flat.length / 2 }, (_, place) => [flat[2 * place] as string, flat[2 * place + 1] === '1']));
    return asked.flatMap((one) => {
      const claimed = fresh.get(one.record.id);
      // The same one may have been asked for twice.
      return fresh.delete(one.record.id) ? [{ ...one, claim: claimed && { lease, leaseEndsAt } }] : [];
    });
  }

  /** Hosts for which something is due, the longest waiting first, without so many of them. */
  async dueHosts(without: number, limit: number): Promise<string[]> {
    const [seconds, microseconds] = await this.#redis.time();
    return this.#redis.zrangebyscore(deliveryKeys.hosts, '-inf', 1000 * Number(seconds) + Math.floor(Number(microseconds) / 1000), 'LIMIT', without, limit);
  }

  /** Claims what is due for a host. */
  async claim(host: string, count: number): Promise<ClaimedDelivery[]> {
    const leaseEndsAt = performance.now() + leaseMs;
    const [lease = '', ...flat] = await this.#redis.millraceClaim(deliveryKeys.hosts, deliveryKeys.holds, deliveryKeys.prefix, host, leaseMs, count);
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
    const forgetBefore = earliestDeliveryId(Date.now() - 1000 * this.#retentionSeconds);
    await this.#redis.millraceFinish(deliveryKeys.hosts, deliveryKeys.holds, deliveryKeys.prefix, forgetBefore, ...finished.flatMap(({ claimed: { lease, host }, record, waitMs }) => {
      const wait = record.status === 'dead' ? 'dead' : (waitMs ?? '');
      const kept = { ...record, attempts: record.attempts.slice(-attemptsKept) };
      const seconds = record.status === 'delivered' ? Math.min(deliveredSeconds, this.#retentionSeconds) : this.#retentionSeconds;
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

function recordOf({ tenant, eventId, event, predictionId, target, at, reason, trace }: NewDelivery): DeliveryRecord {
  return {
    id: deliveryId(eventId, targetKey(target), at), tenant, eventId, event, predictionId, target, createdAt: at, attempts: [], tries: 0, ...(trace && { trace }),
    ...(reason === undefined ? { status: 'pending', nextAttemptAt: at } : { status: 'dead', reason }),
  };
}

/** Tells the targets of one event apart. An endpoint stays the same when its URL changes. */
function targetKey(target: Target): string {
  return target.kind === 'reply-queue' ? `queue ${target.queue}` : target.endpointId ?? 'webhook';
}

/** What is left alone together when it does not answer: scheme, name and port, or a reply queue. */
export function hostOf({ tenant, target }: Pick<DeliveryRecord, 'tenant' | 'target'>): string {
  return target.kind === 'reply-queue' ? `queue:${tenant}/${target.queue}` : new URL(target.url).origin;
}
