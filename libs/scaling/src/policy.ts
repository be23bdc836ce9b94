// How many replicas a pool should have: a pure decision over what it is asked for and what serves it. Work is measured in
// work-seconds, rows × measured seconds per row; one thread does one work-second a second.
import { type Lane, lanes } from '@millrace/protocol';
import { averageOf, type Average } from './average.ts';

/** What one pool is asked for and what serves it, at one time. */
export interface Reading {
  /** When it was measured; milliseconds since the epoch. */
  readonly measuredAt: number;
  /** Rows waiting and running, measured ones or not. */
  readonly rows: Readonly<Record<Lane, number>>;
  /** Work-seconds waiting and running, summed over models. Rows of a version that was never measured count as none. */
  readonly backlogSeconds: Readonly<Record<Lane, number>>;
  /** Work-seconds of the online lane that arrive per second. Bulk has no such figure: a backfill feeds as fast as it is served. */
  readonly onlineArrivingPerSecond: number;
  /** Age of the oldest that waits, seconds; 0 where none does. */
  readonly oldestSeconds: Readonly<Record<Lane, number>>;
  /** Replicas that claim; not those that start or drain. */
  readonly ready: number;
  /** Work-seconds that one replica does per second. */
  readonly threadsPerReplica: number;
}

export interface Limits {
  readonly minReplicas: number;
  readonly maxReplicas: number;
  /** Within which an online row should be served. */
  readonly targetSeconds: number;
  /** Within which a bulk row that waits should be served. */
  readonly bulkDrainSeconds: number;
  /** Share of the threads that arrivals may keep busy, over 0 to 1; the rest is headroom. */
  readonly utilisation: number;
  /** How long fewer must have been enough before replicas are taken away. */
  readonly scaleInDelaySeconds: number;
  /** How long a pool must have been empty before it goes to its minimum at once. */
  readonly idleSeconds: number;
  /** An older reading counts as none. */
  readonly staleSeconds: number;
  /** From the order of a replica to its first claim. */
  readonly startSeconds: number;
}

/** Why so many: what asked for them, or what held them. */
export type Reason =
  /** Arrivals keep so many busy. */
  | 'arrivals'
  /** So many serve what waits in time. */
  | 'backlog'
  /** Bulk work asks for some of them. */
  | 'bulk'
  /** The oldest waits too long, whatever was measured. */
  | 'oldest'
  /** Fewer would do, but not yet for long enough. */
  | 'cooldown'
  | 'idle'
  | 'minimum'
  | 'maximum'
  /** No reading that can be trusted: nothing changes. */
  | 'no-metrics';

export interface Decision {
  readonly desired: number;
  readonly reason: Reason;
  readonly state: State;
}

/** What the next decision needs of this one. Plain data; its content is the policy's own. */
export interface State {
  readonly desired: number;
  /** Work-seconds of the online lane that arrive per second. */
  readonly arriving: Average;
  /** When more replicas were last ordered. */
  readonly orderedAt: number;
  /** When anything last waited, ran or arrived. */
  readonly busyAt: number;
  /** Since when fewer would do without a break, and the most that were wanted since; undefined where they would not. */
  readonly fewer: { readonly since: number; readonly most: number } | undefined;
}

/** Where more than this share of the headroom is used up, more are ordered; a share of 10 % between out and in keeps noise from moving the fleet. */
const band = 0.1;

/** The state of an autoscaler that starts, `replicas` being what it finds running. A pool without any has been idle for long enough. */
export function initialState(replicas: number, now: number): State {
  return { desired: replicas, arriving: { mean: 0, deviation: 0, at: now }, orderedAt: -Infinity, busyAt: replicas === 0 ? -Infinity : now, fewer: undefined };
}

/** Decides for one pool; call it at every poll, with the state of the decision before. `now` in milliseconds since the epoch. */
export function decide(before: State, reading: Reading | undefined, limits: Limits, now: number): Decision {
  if (!reading || now - reading.measuredAt > limits.staleSeconds * 1000 || !isSound(reading)) return hold(before, reading, limits);

  const arriving = averageOf(before.arriving, { value: reading.onlineArrivingPerSecond, at: reading.measuredAt, mayJump: isWaiting(reading, limits) });
  const busy = lanes.some((lane) => reading.rows[lane] > 0) || reading.onlineArrivingPerSecond > 0;
  const state = { ...before, arriving, busyAt: busy ? now : before.busyAt };
  if (!busy && now - state.busyAt >= limits.idleSeconds * 1000) return to(state, limits.minReplicas, limits.minReplicas === 0 ? 'idle' : 'minimum', now);

  const need = needOf(state, reading, limits, now);
  const wanted = clamp(need.replicas, limits);
  if (wanted.replicas > before.desired && need.urgent > before.desired) return to(state, wanted.replicas, wanted.reason ?? need.reason, now);
  if (before.desired > limits.maxReplicas) return to(state, limits.maxReplicas, 'maximum', now);
  if (before.desired < limits.minReplicas) return to(state, limits.minReplicas, 'minimum', now);
  if (clamp(need.ample, limits).replicas >= before.desired) return { desired: before.desired, reason: wanted.reason ?? need.reason, state: { ...state, fewer: undefined } };

  const fewer = { since: before.fewer?.since ?? now, most: Math.max(before.fewer?.most ?? 0, wanted.replicas) };
  if (now - fewer.since < limits.scaleInDelaySeconds * 1000) return { desired: before.desired, reason: 'cooldown', state: { ...state, fewer } };
  return to(state, fewer.most, wanted.reason ?? need.reason, now);
}

/** Whether a row that arrives now would wait for a good part of the target: a burst that the pool swallows is no new level. */
function isWaiting({ backlogSeconds, ready, threadsPerReplica }: Reading, { targetSeconds }: Limits): boolean {
  return backlogSeconds.online > (ready * threadsPerReplica * targetSeconds) / 4;
}

interface Need {
  readonly replicas: number;
  /** The same with the headroom partly used up: more than there are means that some must be ordered. */
  readonly urgent: number;
  /** The same with headroom to spare: fewer than there are means that some may go. */
  readonly ample: number;
  readonly reason: Reason;
}

function needOf(state: State, reading: Reading, limits: Limits, now: number): Need {
  const { threadsPerReplica: threads } = reading;
  const arrivals = state.arriving.mean / limits.utilisation;
  const backlog = threadsForBacklog(state, reading, limits, now);
  const bulk = threadsForBulk(reading, limits);
  const oldest = replicasForOldest(state, reading, limits, now);

  const replicasAt = (share: number) => Math.max(1, oldest, Math.ceil((Math.max(arrivals * share, backlog) + bulk) / threads));
  const replicas = replicasAt(1);
  const reasonOf = (): Reason => {
    if (oldest === replicas) return 'oldest';
    if (bulk > Math.max(arrivals, backlog)) return 'bulk';
    return backlog > arrivals ? 'backlog' : 'arrivals';
  };
  return { replicas, urgent: replicasAt(1 - band), ample: replicasAt(1 + band), reason: reasonOf() };
}

/**
 * Little's law allows `C × W` work-seconds in a pool of C threads where a row may take W seconds. What is ordered now helps
 * only after its start, and is worth its start only where it then works for as long. So C must be enough to have, from then
 * on and after as long again, no more left than is served within half the target.
 */
function threadsForBacklog(state: State, reading: Reading, { targetSeconds, startSeconds }: Limits, now: number): number {
  const { ready, threadsPerReplica: threads, backlogSeconds } = reading;
  const starting = Math.max(0, state.desired - ready);
  const startedIn = Math.min(startSeconds, Math.max(0, startSeconds - (now - state.orderedAt) / 1000));
  const served = (ready * startSeconds + starting * (startSeconds - startedIn)) * threads;
  const left = Math.max(0, backlogSeconds.online + state.arriving.mean * startSeconds - served);
  const drainSeconds = Math.max(targetSeconds / 2, startSeconds);
  return (left + state.arriving.mean * drainSeconds) / (drainSeconds + targetSeconds / 2);
}

/** The rate that serves what waits by the time that its oldest is due. */
function threadsForBulk({ backlogSeconds, oldestSeconds }: Reading, { bulkDrainSeconds }: Limits): number {
  return backlogSeconds.bulk / Math.max(bulkDrainSeconds - oldestSeconds.bulk, bulkDrainSeconds / 4);
}

/** One more each time that the oldest should have been served by all that was ordered: what was measured is wrong then, or nothing was. */
function replicasForOldest(state: State, { oldestSeconds, rows, ready, threadsPerReplica }: Reading, { targetSeconds, startSeconds }: Limits, now: number): number {
  const patienceSeconds = 2 * startSeconds + targetSeconds;
  const helps = rows.online > ready * threadsPerReplica;
  const late = oldestSeconds.online > patienceSeconds && now - state.orderedAt > patienceSeconds * 1000;
  return late && helps ? state.desired + 1 : 0;
}

function clamp(replicas: number, { minReplicas, maxReplicas }: Limits): { replicas: number; reason: Reason | undefined } {
  if (replicas > maxReplicas) return { replicas: maxReplicas, reason: 'maximum' };
  if (replicas < minReplicas) return { replicas: minReplicas, reason: 'minimum' };
  return { replicas, reason: undefined };
}

function to(state: State, desired: number, reason: Reason, now: number): Decision {
  const orderedAt = desired > state.desired ? now : state.orderedAt;
  return { desired, reason, state: { ...state, desired, orderedAt, fewer: undefined } };
}

/** Never fewer; the first one where the rows alone can be trusted to wait. */
function hold(before: State, reading: Reading | undefined, { minReplicas, maxReplicas }: Limits): Decision {
  const waiting = reading !== undefined && lanes.some((lane) => reading.rows[lane] > 0);
  const desired = Math.max(before.desired, minReplicas, waiting ? Math.min(1, maxReplicas) : 0);
  return { desired, reason: 'no-metrics', state: { ...before, desired, fewer: undefined } };
}

function isSound({ rows, backlogSeconds, oldestSeconds, onlineArrivingPerSecond, ready, threadsPerReplica }: Reading): boolean {
  const figures = [...lanes.flatMap((lane) => [rows[lane], backlogSeconds[lane], oldestSeconds[lane]]), onlineArrivingPerSecond, ready];
  return figures.every((figure) => Number.isFinite(figure) && figure >= 0) && Number.isFinite(threadsPerReplica) && threadsPerReplica > 0;
}
