// What the policy is told of a pool, and what it is bound by. Work is measured in work-seconds, rows × measured seconds per
// row; one thread does one work-second a second.
import { type Lane, lanes } from '@millrace/protocol';

/** What one pool is asked for and what serves it, at one time. */
export interface Reading {
  /** When it was measured, milliseconds by the clock of whoever decides. */
  readonly measuredAt: number;
  /** Rows waiting and running, and in the bulk lane those that backfills have still to queue; measured ones or not. */
  readonly rows: Readonly<Record<Lane, number>>;
  /** Their work-seconds, summed over models. Rows of a version that was never measured count as none. */
  readonly backlogSeconds: Readonly<Record<Lane, number>>;
  /**
   * Work-seconds of the online lane that arrived per second since the reading before: the policy averages them, and would
   * see a step late in an average. Bulk has no such figure: a backfill feeds as fast as it is served.
   */
  readonly onlineArrivingPerSecond: number;
  /** Age of the oldest that waits, seconds; 0 where none does. In the bulk lane the mean age of what is to come, where that is more. */
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

/** Whether all figures can be true. */
export function isSound({ measuredAt, rows, backlogSeconds, oldestSeconds, onlineArrivingPerSecond, ready, threadsPerReplica }: Reading): boolean {
  const figures = [measuredAt, ...lanes.flatMap((lane) => [rows[lane], backlogSeconds[lane], oldestSeconds[lane]]), onlineArrivingPerSecond, ready];
  return figures.every((figure) => Number.isFinite(figure) && figure >= 0) && Number.isFinite(threadsPerReplica) && threadsPerReplica > 0;
}
