// A sign that something comes to a pool, for who waits for it: BullMQ's event streams, so that it costs producers nothing.
import { lanes } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

/**
 * Resolves when something happens in the queues of the pool, and after `ms` at the latest: where no worker is, only
 * what is queued does. `blocking`: a connection of its own.
 */
export async function untilArrival(blocking: Redis, pool: string, ms: number): Promise<void> {
  const streams = lanes.map((lane) => keysOf(pool).events(lane));
  await blocking.xread('BLOCK', ms, 'STREAMS', ...streams, ...streams.map(() => '$'));
}
