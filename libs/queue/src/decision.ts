// What the autoscaler has decided for a pool, for those who show it. It is forgotten when nobody decides any more.
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

export interface Decision {
  readonly desiredWorkers: number;
  readonly reason: string;
  /** Milliseconds since the epoch. */
  readonly decidedAt: number;
}

/** `seconds`: for how long it holds. */
export async function publishDecision(redis: Redis, pool: string, decision: Decision, seconds: number): Promise<void> {
  await redis.set(keysOf(pool).decision, JSON.stringify(decision), 'EX', seconds);
}

/** As demand.lua gives it. */
export function parseDecision(text: string): Decision | undefined {
  return text === '' ? undefined : JSON.parse(text) as Decision;
}
