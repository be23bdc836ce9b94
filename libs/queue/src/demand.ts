// What a pool is asked for and what serves it, as Redis knows it: rows by lane, model version and tenant, what was done so far,
// the live replicas, and what was last decided about their number.
import { type Lane, lanes } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { type Decision, parseDecision } from './decision.ts';
import { keysOf } from './names.ts';
import { goneMs, parseReplica, type Replica } from './replicas.ts';
import { type Fill, fills } from './work.ts';

/** Accepted and not settled. */
export interface Rows {
  readonly waiting: number;
  /** Of bundles and chunks that workers have claimed. */
  readonly running: number;
}

export interface LaneDemand {
  /** Waiting and running. */
  readonly rows: number;
  readonly running: number;
  /** By model version, as `digits@3`, and by tenant: of each that has any. */
  readonly models: ReadonlyMap<string, Rows>;
  readonly tenants: ReadonlyMap<string, number>;
  /** Age of the oldest waiting bundle; 0 where none waits. */
  readonly oldestSeconds: number;
}

/** What was ever asked of a model version, and what running its rows has cost: differences of two readings are rates. */
export interface ModelWork {
  readonly arrivedRows: Readonly<Record<Lane, number>>;
  /** Rows that ran and seconds of inference threads, in micro-batches at least half full and in others. */
  readonly ran: Readonly<Record<Fill, { readonly rows: number; readonly seconds: number }>>;
}

/** Rows of backfills that are still to be queued, behind the window of chunks that are: as their coordinators said within the last minute. */
export interface ToCome {
  readonly rows: number;
  /** By model version, as `digits@3`. */
  readonly models: ReadonlyMap<string, number>;
  /** For how long their backfills have had rows to come: the mean over the rows, for an old backfill says nothing of a new one's rows. */
  readonly ageSeconds: number;
}

export interface Demand {
  /** Redis' clock, milliseconds since the epoch. */
  readonly readAt: number;
  readonly lanes: Readonly<Record<Lane, LaneDemand>>;
  /** By model version, as `digits@3`: of all that ever had rows here. */
  readonly models: ReadonlyMap<string, ModelWork>;
  /** Rows ever settled, of all lanes. */
  readonly settledRows: number;
  readonly replicas: readonly Replica[];
  readonly toCome: ToCome;
  /** What the autoscaler last decided, while that holds. */
  readonly decision: Decision | undefined;
}

const lists = ['wait', 'active', 'prioritized'] as const;
/** Bookings that each reading looks at. */
const lookedAt = 100;
/** An add that is not with Redis by then never will be: a producer waits 5 s for an answer, and sends nothing again (connection.ts). */
const addMs = 15_000;
/** A coordinator says every second what is to come. One that has died is replaced within 16 s. */
const toComeMs = 60_000;

/** Reads a pool's demand, in one round trip. */
export async function readDemand(redis: Redis, pool: string): Promise<Demand> {
  const of = keysOf(pool);
  const keys = [of.depth, of.bookings, of.work, of.replicas, of.decision, of.toCome, ...lanes.flatMap((lane) => lists.map((list) => of.list(lane, list)))];
  const [now, rows, done, live, running, oldest, decided, toCome] = await redis.millraceDemand(
    keys.length, ...keys, of.results(''), lookedAt, addMs, goneMs, toComeMs, ...lanes.flatMap((lane) => [lane, of.job(lane, '')]),
  );
  const readAt = Number(now);
  const [total, claimed] = [numbersOf(rows), numbersOf(running)];
  const ofLane = (lane: Lane, place: number): LaneDemand => {
    const addedAt = oldest[place] ?? 0;
    return { ...laneDemand(lane, total, claimed), oldestSeconds: addedAt === 0 ? 0 : Math.max(0, readAt - addedAt) / 1000 };
  };
  const counts = numbersOf(done);
  return {
    readAt,
    lanes: Object.fromEntries(lanes.map((lane, place) => [lane, ofLane(lane, place)])) as Record<Lane, LaneDemand>,
    models: modelsOf(counts),
    settledRows: counts.get('settled') ?? 0,
    replicas: pairs(live).map(([id, text]) => parseReplica(id, text as string)),
    toCome: toComeOf(toCome, readAt),
    decision: parseDecision(decided),
  };
}

function laneDemand(lane: Lane, total: ReadonlyMap<string, number>, claimed: ReadonlyMap<string, number>): Omit<LaneDemand, 'oldestSeconds'> {
  const models = new Map<string, Rows>();
  const tenants = new Map<string, number>();
  let [rows, running] = [0, 0];
  for (const [path, count] of total) {
    const [itsLane, model = '', tenant = ''] = path.split('/');
    if (itsLane !== lane) continue;
    const active = claimed.get(path) ?? 0;
    const before = models.get(model) ?? { waiting: 0, running: 0 };
    models.set(model, { waiting: before.waiting + count - active, running: before.running + active });
    tenants.set(tenant, (tenants.get(tenant) ?? 0) + count);
    rows += count;
    running += active;
  }
  return { rows, running, models, tenants };
}

function toComeOf(flat: readonly string[], readAt: number): ToCome {
  const models = new Map<string, number>();
  let [rows, rowSeconds] = [0, 0];
  for (let at = 0; at < flat.length; at += 3) {
    const [since, model, count] = [Number(flat[at]), flat[at + 1] as string, Number(flat[at + 2])];
    models.set(model, (models.get(model) ?? 0) + count);
    rows += count;
    rowSeconds += count * (readAt - since) / 1000;
  }
  return { rows, models, ageSeconds: rows > 0 ? rowSeconds / rows : 0 };
}

function modelsOf(counts: ReadonlyMap<string, number>): Map<string, ModelWork> {
  const names = new Set([...counts.keys()].filter((field) => field.includes('@')).map((field) => field.slice(field.lastIndexOf('/') + 1)));
  const count = (field: string) => counts.get(field) ?? 0;
  return new Map([...names].map((name) => [name, {
    arrivedRows: { online: count(`arrived/online/${name}`), bulk: count(`arrived/bulk/${name}`) },
    ran: ranOf(name, count),
  }]));
}

function ranOf(name: string, count: (field: string) => number): ModelWork['ran'] {
  const of = (fill: Fill) => ({ rows: count(`ran/${fill}/${name}`), seconds: count(`busy/${fill}/${name}`) / 1e6 });
  return { full: of('full'), partial: of('partial') };
}

/** What running a version's rows has cost, ever. */
export async function readRan(redis: Redis, pool: string, name: string): Promise<ModelWork['ran']> {
  const fields = fills.flatMap((fill) => [`ran/${fill}/${name}`, `busy/${fill}/${name}`]);
  const values = await redis.hmget(keysOf(pool).work, ...fields);
  return ranOf(name, (field) => Number(values[fields.indexOf(field)] ?? 0));
}

function numbersOf(flat: readonly (string | number)[]): Map<string, number> {
  return new Map(pairs(flat).map(([field, value]) => [field, Number(value)]));
}

function pairs(flat: readonly (string | number)[]): [string, string | number][] {
  return Array.from({ length: flat.length / 2 }, (_, place) => [String(flat[2 * place]), flat[2 * place + 1] as string | number]);
}
