// The policy as a scaler of the simulator, reading what the autoscaler process reads.
import { decide, initialState, type Limits, type Reading } from './policy.ts';
import type { Scaler, View } from './simulator.ts';

/** Over which seconds per row are measured. */
const measuredSeconds = 30;

export function policyScaler(limits: Limits, { replicas, threadsPerReplica, everySeconds }: { replicas: number; threadsPerReplica: number; everySeconds: number }): Scaler {
  let state = initialState(replicas, 0);
  let secondsPerRow = 0;
  const past: View[] = [];
  return {
    everySeconds,
    decide: (view) => {
      const before = past.at(-1);
      past.push(view);
      while (past.length > 2 && view.now - (past[1] as View).now >= measuredSeconds) past.shift();
      secondsPerRow = measure(past[0] as View, view) ?? secondsPerRow;
      const decision = decide(state, before && readingOf(view, before, { secondsPerRow, threadsPerReplica }), limits, view.now * 1000);
      (globalThis as any).TRACE?.(decision, view.now, before && readingOf(view, before, { secondsPerRow, threadsPerReplica }));
      state = decision.state;
      return decision.desired;
    },
  };
}

function measure(since: View, view: View): number | undefined {
  const served = view.served - since.served;
  return served === 0 ? undefined : (view.busySeconds - since.busySeconds) / served;
}

function readingOf(view: View, before: View, { secondsPerRow, threadsPerReplica }: { secondsPerRow: number; threadsPerReplica: number }): Reading {
  return {
    measuredAt: view.now * 1000,
    rows: view.rows,
    backlogSeconds: { online: view.rows.online * secondsPerRow, bulk: view.rows.bulk * secondsPerRow },
    onlineArrivingPerSecond: ((view.arrived.online - before.arrived.online) * secondsPerRow) / (view.now - before.now),
    oldestSeconds: view.oldestSeconds,
    ready: view.ready,
    threadsPerReplica,
  };
}
