// What people scale with else, as its source does it: https://github.com/kubernetes/kubernetes/tree/master/pkg/controller/podautoscaler
// and https://keda.sh/docs/latest/concepts/scaling-deployments/. Where a choice is left, it is theirs to gain: metrics are
// exact and fresh, a list has an entry for each row, and pods drain as ours do.
import type { Scaler, View } from './simulator.ts';

const syncSeconds = 15;
const tolerance = 0.1;
const stabilisationSeconds = 300;

/** Always so many. */
export function fixedFleet(replicas: number): Scaler {
  return { everySeconds: 60, decide: () => replicas };
}

export interface CpuOptions {
  /** Share of the threads that should be busy. */
  readonly targetShare: number;
  readonly threadsPerReplica: number;
  readonly minReplicas: number;
}

/** A HorizontalPodAutoscaler on CPU: a busy thread is a busy core. It cannot scale to zero. */
export function hpaOnCpu({ targetShare, threadsPerReplica, minReplicas }: CpuOptions): Scaler {
  const behaviour = new HpaBehaviour(true);
  let busyBefore = 0;
  return {
    everySeconds: syncSeconds,
    decide: (view) => {
      const { ready, starting, busySeconds, now } = view;
      const busy = (busySeconds - busyBefore) / (syncSeconds * threadsPerReplica);
      busyBefore = busySeconds;
      return Math.max(minReplicas, behaviour.limit(cpuRecommendation(busy / targetShare, ready, starting), view, now));
    },
  };
}

/** `load`: in replicas that run at the target. Pods that start count as idle when it scales out, and not at all when it scales in. */
function cpuRecommendation(load: number, ready: number, starting: number): number {
  const current = ready + starting;
  if (ready === 0) return current;
  const ratio = load / ready;
  const isRebalanced = ratio > 1 && starting > 0;
  const used = isRebalanced ? load / current : ratio;
  if (Math.abs(1 - used) <= tolerance || (ratio > 1 && used < 1)) return current;
  return Math.ceil(used * (isRebalanced ? current : ready));
}

export interface ListLengthOptions {
  /** Entries of the online list for each replica. */
  readonly listLength: number;
  readonly bulkListLength: number;
  readonly pollingSeconds: 5 | 30;
  readonly minReplicas: number;
  /** Whether the HPA's default limit on scaling out is left as it is. */
  readonly limitsOut: boolean;
}

/**
 * KEDA with a Redis list as trigger, one for each lane. KEDA itself polls, and only switches between zero and one: to zero
 * when both lists have been empty for the cooldown. Between one and many it is an HPA, which asks KEDA afresh at each sync.
 */
export function kedaOnListLength({ listLength, bulkListLength, pollingSeconds, minReplicas, limitsOut }: ListLengthOptions): Scaler {
  const cooldownSeconds = 300;
  const everySeconds = 5;
  const behaviour = new HpaBehaviour(limitsOut);
  let [ticks, activeAt, desired] = [0, -Infinity, -1];
  return {
    everySeconds,
    decide: (view) => {
      const seconds = ticks++ * everySeconds;
      if (desired === -1) desired = view.ready;
      if (seconds % pollingSeconds === 0) {
        if (view.listed.online + view.listed.bulk > 0) activeAt = view.now;
        if (activeAt === view.now) desired = Math.max(1, desired);
        else if (minReplicas === 0 && view.now - activeAt >= cooldownSeconds) desired = 0;
      }
      if (seconds % syncSeconds === 0 && desired > 0) {
        const recommended = Math.max(listRecommendation(view.listed.online, listLength, desired), listRecommendation(view.listed.bulk, bulkListLength, desired));
        desired = Math.max(1, minReplicas, behaviour.limit(recommended, view, view.now));
      }
      return desired;
    },
  };
}

/** GetExternalPerPodMetricReplicas: https://github.com/kubernetes/kubernetes/blob/master/pkg/controller/podautoscaler/replica_calculator.go */
function listRecommendation(entries: number, perReplica: number, current: number): number {
  const ratio = entries / (perReplica * current);
  return Math.abs(1 - ratio) <= tolerance ? current : Math.ceil(entries / perReplica);
}

/** The default `behavior`: out by the larger of 100 % and 4 pods in 15 s, in to the highest recommendation of the last 300 s. */
class HpaBehaviour {
  readonly #limitsOut: boolean;
  #recommendations: { readonly at: number; readonly replicas: number }[] = [];

  constructor(limitsOut: boolean) {
    this.#limitsOut = limitsOut;
  }

  limit(recommended: number, { ready, starting }: View, now: number): number {
    const current = ready + starting;
    if (this.#recommendations.length === 0) this.#recommendations.push({ at: now, replicas: current });
    this.#recommendations = [...this.#recommendations.filter(({ at }) => now - at < stabilisationSeconds), { at: now, replicas: recommended }];
    const stable = this.#recommendations.reduce((most, { replicas }) => Math.max(most, replicas), 0);
    if (recommended <= current) return Math.min(current, stable);
    return this.#limitsOut ? Math.min(recommended, Math.max(2 * current, current + 4)) : recommended;
  }
}
