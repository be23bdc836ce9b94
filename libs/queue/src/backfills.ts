// Backfills in Redis: what was asked for, how far each is, what is asked of it, and which coordinator has it. How far a backfill
// is is written by the holder of its lease alone; everybody else only wishes.
import {
  type BackfillProgress, type BackfillRecord, type BackfillSpec, type BackfillWish, headOfBackfill, isActive, isBackfillEnd, MillraceError, newBackfillId, unstarted, wishStates,
} from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { feedLength } from './feed.ts';
import { KeyLease } from './lease.ts';
import { backfillKeys, backfillsPool, keysOf } from './names.ts';

export interface BackfillQuery {
  readonly tenant: string;
  readonly matches: (record: BackfillRecord) => boolean;
  /** Goes on after this id. */
  readonly after?: string | undefined;
  readonly limit: number;
}

export interface BackfillPageOf {
  readonly backfills: readonly BackfillRecord[];
  /** Where to go on; undefined at the end. */
  readonly next: string | undefined;
}

/** Renewed three times in its time, so that a coordinator that dies is missed for no longer than this. */
export const leaseMs = 15_000;
const readAtOnce = 100;
/** A coordinator that is restarted is back by then. */
const presenceMs = 60_000;
/** A page ends after so many, short or empty, so that a rare filter costs no long request. */
const readPerPage = 2000;

type Fixed = Omit<BackfillRecord, 'progress' | 'wish'>;

export class BackfillStore {
  readonly #redis: Redis;
  readonly #retentionSeconds: number;

  /** `retentionSeconds`: how long a backfill is kept after its end. */
  constructor(redis: Redis, retentionSeconds: number) {
    this.#redis = redis;
    this.#retentionSeconds = retentionSeconds;
  }

  /** Makes one; a coordinator finds it within a second. */
  async create(tenant: string, spec: BackfillSpec, createdAt: number, id = newBackfillId(createdAt)): Promise<BackfillRecord> {
    const fixed: Fixed = { id, tenant, createdAt, spec };
    // In this order: what stands in the set can be read.
    await this.#redis.hset(backfillKeys.backfill(fixed.id), { record: JSON.stringify(fixed), state: unstarted.state, progress: JSON.stringify(unstarted) });
    await this.#redis.zadd(backfillKeys.index(tenant), 0, fixed.id);
    await this.#redis.sadd(backfillKeys.open, fixed.id);
    return { ...fixed, progress: unstarted };
  }

  /** The backfill of this id; undefined where there is none, or where it is not the tenant's. */
  async find(id: string, tenant?: string): Promise<BackfillRecord | undefined> {
    const [fixed, progress, wish] = await this.#redis.hmget(backfillKeys.backfill(id), 'record', 'progress', 'wish');
    if (typeof fixed !== 'string' || typeof progress !== 'string') return undefined;
    const record: BackfillRecord = { ...JSON.parse(fixed) as Fixed, progress: JSON.parse(progress) as BackfillProgress, ...(wish && { wish: wish as BackfillWish }) };
    return tenant === undefined || record.tenant === tenant ? record : undefined;
  }

  /** One page of them, newest first. */
  async list({ tenant, matches, after, limit }: BackfillQuery): Promise<BackfillPageOf> {
    const index = backfillKeys.index(tenant);
    const backfills: BackfillRecord[] = [];
    let next = after;
    for (let seen = 0; seen < readPerPage; seen += readAtOnce) {
      const ids = await this.#redis.zrevrangebylex(index, next === undefined ? '+' : `(${next}`, '-', 'LIMIT', 0, readAtOnce);
      const records = await Promise.all(ids.map((id) => this.find(id, tenant)));
      const forgotten = ids.filter((_, place) => !records[place]);
      if (forgotten.length > 0) await this.#redis.zrem(index, ...forgotten);
      for (const [place, id] of ids.entries()) {
        if (backfills.length === limit) return { backfills, next };
        next = id;
        const record = records[place];
        if (record && matches(record)) backfills.push(record);
      }
      if (ids.length < readAtOnce) return { backfills, next: undefined };
    }
    return { backfills, next };
  }

  /** Asks for it; its coordinator sees to it. Throws `not-found`, or `backfill-state` where its state does not allow it. */
  async wish(id: string, tenant: string, wish: BackfillWish): Promise<BackfillRecord> {
    const record = await this.find(id, tenant);
    if (wish === 'retry' && record?.progress.rows.failed === 0) throw new MillraceError('backfill-state', 'None of its rows has failed');
    const answer = record ? await this.#redis.millraceBackfillWish(backfillKeys.backfill(id), backfillKeys.open, id, wish, ...wishStates[wish]) : 'unknown';
    if (answer === 'unknown') throw new MillraceError('not-found', `There is no backfill ${id}`);
    if (answer !== 'granted') throw new MillraceError('backfill-state', `A backfill that is ${answer} cannot be asked to ${wish}`);
    return await this.find(id, tenant) as BackfillRecord;
  }

  /** Says that a coordinator is here. To be said again within a minute. */
  async announce(): Promise<void> {
    await this.#redis.set(backfillKeys.coordinator, '', 'PX', presenceMs);
  }

  /** Whether there is, or just was, a coordinator. */
  async hasCoordinator(): Promise<boolean> {
    return await this.#redis.exists(backfillKeys.coordinator) === 1;
  }

  /** Those that a coordinator has to see to, oldest first. */
  async open(): Promise<string[]> {
    return (await this.#redis.smembers(backfillKeys.open)).toSorted();
  }

  /** Takes a backfill; undefined where another coordinator has it. */
  async hold(id: string): Promise<HeldBackfill | undefined> {
    const lease = new KeyLease(this.#redis, backfillKeys.lease(id), leaseMs);
    if (!await lease.take()) return undefined;
    const record = await this.find(id);
    if (record) return new HeldBackfill(this.#redis, { record, lease, retentionSeconds: this.#retentionSeconds });
    // Its retention is over.
    await this.#redis.srem(backfillKeys.open, id);
    await lease.release();
    return undefined;
  }
}

/** Another coordinator has the backfill, or may have it. */
export class LeaseLost extends Error {
  override readonly name = 'LeaseLost';
}

/** A backfill whose lease this process has. */
export class HeldBackfill {
  readonly id: string;
  readonly #redis: Redis;
  readonly #fixed: Fixed;
  readonly #lease: KeyLease;
  readonly #retentionSeconds: number;
  /** The last event that was told: most writes tell nothing new. */
  #told = '';

  constructor(redis: Redis, { record, lease, retentionSeconds }: { record: BackfillRecord; lease: KeyLease; retentionSeconds: number }) {
    const { id, tenant, createdAt, spec } = record;
    this.id = id;
    this.#fixed = { id, tenant, createdAt, spec };
    this.#redis = redis;
    this.#lease = lease;
    this.#retentionSeconds = retentionSeconds;
  }

  /** Holds it for another lease. Rejects with `LeaseLost`. */
  async extend(): Promise<void> {
    if (!await this.#lease.extend()) throw new LeaseLost();
  }

  async wish(): Promise<BackfillWish | undefined> {
    return await this.#redis.hget(backfillKeys.backfill(this.id), 'wish') as BackfillWish | null ?? undefined;
  }

  /** Writes how far it is, and that a wish is granted by it; with it leaves what there is to tell. False, and nothing is written, where that is not wished any more. Rejects with `LeaseLost`. */
  async write(progress: BackfillProgress, granted?: BackfillWish): Promise<boolean> {
    const { state } = progress;
    const kept = isActive(state) || state === 'paused' ? 0 : this.#retentionSeconds;
    const { tenant } = this.#fixed;
    const told = keysOf(backfillsPool);
    const head = headOfBackfill({ ...this.#fixed, progress }, Date.now());
    const eventId = head && head.eventId !== this.#told ? head.eventId : '';
    const written = await this.#redis.millraceBackfillWrite(
      backfillKeys.backfill(this.id), backfillKeys.open, backfillKeys.lease(this.id), told.resultsQueue, told.feed(tenant),
      this.id, this.#lease.token, state, JSON.stringify(progress), granted ?? '', isActive(state) ? 0 : 1, kept,
      tenant, eventId, eventId === '' ? '' : JSON.stringify(head), isBackfillEnd(state) ? feedLength : 0,
    );
    if (written === 0) throw new LeaseLost();
    if (written === 1 && eventId !== '') this.#told = eventId;
    return written === 1;
  }

  /** Another coordinator may take it at once. */
  async release(): Promise<void> {
    await this.#lease.release();
  }
}
