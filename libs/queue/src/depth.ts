// How much work a pool holds, in rows: by lane and by tenant; and how much it has ever done.
import { type Lane, lanes } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

export interface Depth {
  /** Rows accepted and not settled: waiting and running. */
  readonly rows: number;
  /** The same, of each tenant that has any. */
  readonly tenants: ReadonlyMap<string, number>;
  /** Age of the oldest waiting bundle; 0 where none waits. */
  readonly oldestSeconds: number;
}

export interface PoolDepth {
  readonly lanes: Readonly<Record<Lane, Depth>>;
  /** Rows ever settled, of all lanes. */
  readonly settled: number;
}

const lists = ['wait', 'active', 'delayed', 'prioritized'] as const;

/** Reads a pool's depth, in one round trip. */
export async function readDepth(redis: Redis, pool: string): Promise<PoolDepth> {
  const keys = keysOf(pool);
  const laneKeys = lanes.flatMap((lane) => lists.map((list) => keys.list(lane, list)));
  const [flat, oldest] = await redis.millraceDepth(1 + laneKeys.length, keys.depth, ...laneKeys, ...lanes.flatMap((lane) => [lane, keys.job(lane, '')]));

  const rows = new Map<string, number>();
  for (let at = 0; at < flat.length; at += 2) rows.set(flat[at] as string, Math.max(0, Number(flat[at + 1])));
  const ages = oldest.map((addedAt) => (addedAt === 0 ? 0 : Math.max(0, Date.now() - addedAt) / 1000));
  const depths = lanes.map((lane, place): [Lane, Depth] => [lane, { rows: rows.get(lane) ?? 0, tenants: tenantsOf(lane, rows), oldestSeconds: ages[place] ?? 0 }]);
  return { lanes: Object.fromEntries(depths) as Record<Lane, Depth>, settled: rows.get('settled') ?? 0 };
}

function tenantsOf(lane: Lane, rows: ReadonlyMap<string, number>): Map<string, number> {
  return new Map([...rows].filter(([field]) => field.startsWith(`${lane}/`)).map(([field, count]) => [field.slice(lane.length + 1), count]));
}
