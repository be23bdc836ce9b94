// Which thread gets a micro-batch. Pure.

export interface ThreadLoad {
  /** Micro-batches that it runs or has waiting. */
  readonly inFlight: number;
  /** Whether it has, or is loading, a session of the version. */
  readonly hasSession: boolean;
  /** Sessions of any version. */
  readonly sessions: number;
  /** False once it died. */
  readonly alive: boolean;
}

export interface Choice {
  readonly thread: number;
  /** Nothing is in flight there: the micro-batch runs at once. */
  readonly idle: boolean;
  /** Exactly one is in flight: the micro-batch waits prepared behind it. */
  readonly prefetch: boolean;
}

/**
 * The best thread for a version: an idle one that has its session, an idle one that may load it, the one with a session
 * and least in flight, another. At most `instances` threads have a session. Undefined where no thread is left.
 */
export function choose(threads: readonly ThreadLoad[], instances: number): Choice | undefined {
  const mayLoad = threads.filter(({ hasSession, alive }) => hasSession && alive).length < instances;
  let best: number | undefined;
  for (const [index, thread] of threads.entries()) {
    if (!thread.alive || !(thread.hasSession || mayLoad)) continue;
    if (best === undefined || isBefore(thread, threads[best] as ThreadLoad)) best = index;
  }
  if (best === undefined) return undefined;
  const { inFlight } = threads[best] as ThreadLoad;
  return { thread: best, idle: inFlight === 0, prefetch: inFlight === 1 };
}

function isBefore(one: ThreadLoad, other: ThreadLoad): boolean {
  if (one.inFlight !== other.inFlight) return one.inFlight < other.inFlight;
  if (one.hasSession !== other.hasSession) return one.hasSession;
  return one.sessions < other.sessions;
}
