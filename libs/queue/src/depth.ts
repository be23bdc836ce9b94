// How much work a pool holds, in rows.
import { type Lane, lanes } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

export interface Depth {
  /** Rows accepted and not settled: waiting and running. */
  readonly rows: number;
  /** Age of the oldest waiting bundle; 0 where none waits. */
  readonly oldestSeconds: number;
}

/**
 * Reads a pool's depth by lane. The counter is adjusted beside the queue and not by it, so an API node that dies
 * between the two leaves it wrong; an empty lane sets it right again.
 */
export async function readDepth(redis: Redis, pool: string): Promise<Record<Lane, Depth>> {
  const depths = await Promise.all(lanes.map(async (lane) => [lane, await readLane(redis, pool, lane)] as const));
  return Object.fromEntries(depths) as Record<Lane, Depth>;
}

/** KEYS: depth hash, then the lane's lists and sets. Returns the rows; forgets them where no bundle is left. */
const depthOrReset = `
local held = redis.call('LLEN', KEYS[2]) + redis.call('LLEN', KEYS[3]) + redis.call('ZCARD', KEYS[4]) + redis.call('ZCARD', KEYS[5])
if held == 0 then redis.call('HDEL', KEYS[1], ARGV[1]) end
return { tonumber(redis.call('HGET', KEYS[1], ARGV[1]) or 0), redis.call('LINDEX', KEYS[2], -1) }`;

async function readLane(redis: Redis, pool: string, lane: Lane): Promise<Depth> {
  const keys = keysOf(pool);
  const lists = (['wait', 'active', 'delayed', 'prioritized'] as const).map((list) => keys.list(lane, list));
  const [rows, oldest] = await redis.eval(depthOrReset, 1 + lists.length, keys.depth, ...lists, lane) as [number, string | null];
  const addedAt = oldest && Number(await redis.hget(keys.job(lane, oldest), 'timestamp'));
  return { rows: Math.max(0, rows), oldestSeconds: addedAt ? Math.max(0, Date.now() - addedAt) / 1000 : 0 };
}
