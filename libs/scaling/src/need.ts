// How many replicas a pool needs now: the formulas, before anything that keeps the fleet from moving.
import type { Average } from './average.ts';
import type { Limits, Reading } from './reading.ts';

/** Why so many: what asks for them, or what holds them. */
export type Reason =
  /** Arrivals keep so many busy. */
  | 'arrivals'
  /** So many serve in time what waits. */
  | 'backlog'
  /** Bulk work needs most of them. */
  | 'bulk'
  /** The oldest waits too long, whatever was measured. */
  | 'oldest'
  /** Fewer would do, but not yet for long enough. */
  | 'cooldown'
  /** There is no work. */
  | 'idle'
  | 'minimum'
  | 'maximum'
  /** No reading that can be trusted: nothing changes. */
  | 'no-metrics';

/** What was decided before. */
export interface Fleet {
  readonly desired: number;
  /** Work-seconds of the online lane that arrive per second. */
  readonly arriving: Average;
  /** Of the last scale-out, milliseconds. */
  readonly lastOutAt: number;
}

/** Between the arrivals that call for more and those that let some go, so that noise moves no fleet. */
const band = 0.1;
/** Sums of fractions that should be whole: 8 ÷ 0.8 is no reason for an 11th. */
const rounding = 1e-6;
/** A shorter average of arrivals orders nothing by itself. */
const averageAfterSeconds = 10;

export interface Need {
  readonly replicas: number;
  /** The same for fewer arrivals: more than there are means that some must be ordered. */
  readonly urgent: number;
  /** The same for more arrivals: fewer than there are means that some may go. */
  readonly ample: number;
  readonly reason: Reason;
}

export interface Situation {
  readonly reading: Reading;
  readonly limits: Limits;
  readonly now: number;
  /** Whatever is asked for. */
  readonly least: number;
}

export function needOf(fleet: Fleet, situation: Situation): Need {
  const { reading, limits, least } = situation;
  const { mean, since, at } = fleet.arriving;
  const arriving = at - since >= averageAfterSeconds * 1000 || isWaiting(reading, limits) ? mean : 0;
  const arrivals = arriving / limits.utilisation;
  const backlog = threadsForBacklog(arriving, fleet, situation);
  const bulk = threadsForBulk(reading, limits);
  const oldest = replicasForOldest(fleet, situation);

  const replicasAt = (share: number) => Math.max(least, oldest, Math.ceil((Math.max(arrivals * share, backlog) + bulk) / reading.threadsPerReplica - rounding));
  const bounded = (replicas: number) => Math.min(limits.maxReplicas, Math.max(limits.minReplicas, replicas));
  const replicas = replicasAt(1);
  const reasonOf = (): Reason => {
    if (replicas > limits.maxReplicas) return 'maximum';
    if (replicas < limits.minReplicas) return 'minimum';
    if (oldest === replicas) return 'oldest';
    if (arrivals + backlog + bulk === 0) return 'idle';
    if (bulk > Math.max(arrivals, backlog)) return 'bulk';
    return backlog > arrivals ? 'backlog' : 'arrivals';
  };
  return { replicas: bounded(replicas), urgent: bounded(replicasAt(1 - band)), ample: bounded(replicasAt(1 + band)), reason: reasonOf() };
}

/**
 * By Little's law a pool of C threads holds C × W work-seconds where a row takes W seconds. So C must be such that, once what
 * is ordered now has started and worked for as long again, no more is left than C threads do in half the target. (As long
 * again: it would not be worth its start for less.)
 */
function threadsForBacklog(arriving: number, { desired, lastOutAt }: Fleet, { reading, limits, now }: Situation): number {
  const { ready, threadsPerReplica, backlogSeconds } = reading;
  const { startSeconds, targetSeconds } = limits;
  const horizonSeconds = startSeconds + drainSecondsOf(limits);
  const work = backlogSeconds.online + arriving * horizonSeconds;
  const starting = Math.max(0, desired - ready);
  const readyInSeconds = Math.min(startSeconds, Math.max(0, startSeconds - (now - lastOutAt) / 1000));
  const servedMeanwhile = (ready * startSeconds + starting * (startSeconds - readyInSeconds)) * threadsPerReplica;
  // Fewer than there are would serve less from now on; more than there are serve more only after their start.
  const ifFewer = work / (horizonSeconds + targetSeconds / 2);
  const ifMore = (Math.max(arriving * startSeconds + backlogSeconds.online - servedMeanwhile, 0) + arriving * drainSecondsOf(limits)) / (drainSecondsOf(limits) + targetSeconds / 2);
  return Math.max(ifFewer, ifMore);
}

function drainSecondsOf({ startSeconds, targetSeconds }: Limits): number {
  return Math.max(startSeconds, targetSeconds / 2);
}

/** The rate that serves what waits by the time that its oldest is due. */
function threadsForBulk({ backlogSeconds, oldestSeconds }: Reading, { bulkDrainSeconds }: Limits): number {
  return backlogSeconds.bulk / Math.max(bulkDrainSeconds - oldestSeconds.bulk, bulkDrainSeconds / 4);
}

/** A quarter more each time that the oldest is late though all that was ordered has had its time: what was measured is wrong then, or nothing was. */
function replicasForOldest({ desired, lastOutAt }: Fleet, { reading, limits, now }: Situation): number {
  const { oldestSeconds, rows, backlogSeconds, ready, threadsPerReplica } = reading;
  const isLate = oldestSeconds.online > limits.targetSeconds && now - lastOutAt > (limits.startSeconds + drainSecondsOf(limits)) * 1000;
  // Where hardly anything else waits more replicas would not help: the oldest is stuck for another reason.
  const helps = backlogSeconds.online === 0 ? rows.online > ready * threadsPerReplica : isWaiting(reading, limits);
  return isLate && helps ? Math.ceil(1.25 * desired) : 0;
}

/** Whether a row that arrives now would wait for a good part of the target: a burst that the pool swallows is no new level. */
export function isWaiting({ backlogSeconds, ready, threadsPerReplica }: Reading, { targetSeconds }: Limits): boolean {
  return backlogSeconds.online > (ready * threadsPerReplica * targetSeconds) / 4;
}
