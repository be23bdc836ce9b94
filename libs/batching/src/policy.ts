// What to run next and how much to claim: pure decisions over plain numbers.
import type { Lane } from '@millrace/protocol';

/** A group of work that could share a micro-batch, as the policy sees it. Times in milliseconds since the epoch. */
export interface Candidate {
  readonly lane: Lane;
  /** Lower ones go first. */
  readonly priority: number;
  readonly rows: number;
  readonly maxRows: number;
  readonly maxDelayMs: number;
  readonly oldestAt: number;
  readonly earliestDeadlineAt: number;
}

export function isFull({ rows, maxRows }: Candidate): boolean {
  return rows >= maxRows;
}

/** Milliseconds that the group is still to be held back to fill up; 0 where it may run now, or has a deadline within the delay. */
export function holdMs(candidate: Candidate, now: number): number {
  const until = candidate.oldestAt + candidate.maxDelayMs;
  return isFull(candidate) || candidate.earliestDeadlineAt <= until ? 0 : Math.max(0, until - now);
}

/** Negative where `a` goes first: online before bulk, then by priority, then the earliest deadline, then the oldest. */
export function compareUrgency(a: Candidate, b: Candidate): number {
  if (a.lane !== b.lane) return a.lane === 'online' ? -1 : 1;
  if (a.priority !== b.priority) return a.priority - b.priority;
  if (a.earliestDeadlineAt !== b.earliestDeadlineAt) return a.earliestDeadlineAt < b.earliestDeadlineAt ? -1 : 1;
  return a.oldestAt - b.oldestAt;
}

export interface ClaimSituation {
  /** Rows of a full micro-batch of what runs here. */
  readonly maxRows: number;
  readonly threads: number;
  readonly rowsPerBundle: number;
  /** Measured; 0 while unknown. */
  readonly secondsPerRow: number;
}

/** Claimed work that takes longer than this would wait here while another replica could be free. */
const claimAheadSeconds = 0.5;
/** Bounds the parallel claims of one replica: each holds a lock that must be renewed. */
const maxBundles = 128;

/**
 * How many bundles a replica should hold: two micro-batches a thread ahead of the one that runs, but no more than half a
 * second of work, and always one bundle more than threads so that no session starves. A bundle is held until its last
 * row is settled, so what runs counts too.
 */
export function bundlesToClaim({ maxRows, threads, rowsPerBundle, secondsPerRow }: ClaimSituation): number {
  const byRows = 3 * maxRows * threads;
  const bySeconds = secondsPerRow === 0 ? byRows : (claimAheadSeconds * threads) / secondsPerRow;
  const bundles = Math.ceil(Math.min(byRows, bySeconds) / Math.max(1, rowsPerBundle));
  return Math.min(maxBundles, Math.max(threads + 1, bundles));
}
