// The policy as a scaler of the simulator, reading what the autoscaler process reads.
import { decide, initialState } from './policy.ts';
import type { Limits, Reading } from './reading.ts';
import type { Scaler, View } from './simulator.ts';

/** Over how long seconds per row are measured at least, and over how many rows: a single dear one must not speak for all. */
const measuredSeconds = 30;
const measuredRows = 200;

export function policyScaler(limits: Limits, { replicas, threadsPerReplica, everySeconds }: { replicas: number; threadsPerReplica: number; everySeconds: number }): Scaler {
  let state = initialState(replicas, 0);
  let secondsPerRow = 0;
  const past: View[] = [];
  return {
    everySeconds,
    decide: (view) => {
      const before = past.at(-1);
      past.push(view);
      while (past[1] && view.now - past[1].now >= measuredSeconds && view.served - past[1].served >= measuredRows) past.shift();
      secondsPerRow = measure(past[0] as View, view) ?? secondsPerRow;
      const decision = decide(state, before && readingOf(view, before, { secondsPerRow, threadsPerReplica }), limits, view.now * 1000);
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
