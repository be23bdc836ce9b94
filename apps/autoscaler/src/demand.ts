// What the policy wants to know of a pool, from what Redis knows of it.
import { DemandSampler, readDemand, type Redis } from '@millrace/queue';
import type { Reading } from '@millrace/scaling';

/** Reads a pool, again and again. */
export function demandOf(redis: Redis, pool: string, now: () => number): () => Promise<Reading> {
  const sampler = new DemandSampler();
  // A pool that has gone to zero comes back with such replicas as it had; before there was any, as is the worker's default.
  let threadsPerReplica = 1;
  return async () => {
    // By this process' own clock, like all that the policy is told; Redis' may be another one.
    const measuredAt = now();
    const demand = await readDemand(redis, pool);
    const { backlogSeconds, arrivingPerSecond } = sampler.note(demand);
    const { lanes: { online, bulk }, toCome } = demand;
    const ready = demand.replicas.filter(({ state }) => state === 'ready');
    if (ready.length > 0) threadsPerReplica = ready.reduce((sum, { threads }) => sum + threads, 0) / ready.length;
    return {
      measuredAt,
      rows: { online: online.rows, bulk: bulk.rows + toCome.rows },
      backlogSeconds,
      onlineArrivingPerSecond: arrivingPerSecond.online,
      oldestSeconds: { online: online.oldestSeconds, bulk: Math.max(bulk.oldestSeconds, toCome.ageSeconds) },
      ready: ready.length,
      threadsPerReplica,
    };
  };
}

/** Live replicas that will stay, whoever started them. */
export async function replicasOf(redis: Redis, pool: string): Promise<number> {
  const { replicas } = await readDemand(redis, pool);
  return replicas.filter(({ state }) => state !== 'draining').length;
}
