// What the policy wants to know of a pool.
import { type Redis, readDepth } from '@millrace/queue';
import type { Reading } from '@millrace/scaling';
import type { Actuator } from './actuator.ts';

export async function readingOf(redis: Redis, pool: string, actuator: Actuator): Promise<Reading> {
  const { lanes: { online, bulk } } = await readDepth(redis, pool);
  return {
    measuredAt: Date.now(),
    rows: { online: online.rows, bulk: bulk.rows },
    backlogSeconds: { online: 0, bulk: 0 },
    onlineArrivingPerSecond: 0,
    oldestSeconds: { online: online.oldestSeconds, bulk: bulk.oldestSeconds },
    ready: await actuator.observed(pool),
    threadsPerReplica: 1,
  };
}
