// What the policy wants to know of a pool, from what Redis knows of it.
import { DemandSampler, readDemand, type Redis, type Replica } from '@millrace/queue';
import type { Reading } from '@millrace/scaling';

/** Reads a pool, again and again. */
export function demandOf(redis: Redis, pool: string, now: () => number): () => Promise<Reading> {
  const sampler = new DemandSampler();
  return async () => {
    // By this process' own clock, like all that the policy is told; Redis' may be another one.
    const measuredAt = now();
    const demand = await readDemand(redis, pool);
    const { backlogSeconds, arrivingPerSecond } = sampler.note(demand);
    const { online, bulk } = demand.lanes;
    const ready = demand.replicas.filter(({ state }) => state === 'ready');
    return {
      measuredAt,
      rows: { online: online.rows, bulk: bulk.rows },
      backlogSeconds,
      onlineArrivingPerSecond: arrivingPerSecond.online,
      oldestSeconds: { online: online.oldestSeconds, bulk: bulk.oldestSeconds },
      ready: ready.length,
      threadsPerReplica: threadsOf(ready),
    };
  };
}

/** Live replicas that will stay, whoever started them. */
export async function replicasOf(redis: Redis, pool: string): Promise<number> {
  const { replicas } = await readDemand(redis, pool);
  return replicas.filter(({ state }) => state !== 'draining').length;
}

/** Their mean; 1 where there is none, as is the worker's default. */
function threadsOf(replicas: readonly Replica[]): number {
  return replicas.length === 0 ? 1 : replicas.reduce((sum, { threads }) => sum + threads, 0) / replicas.length;
}
