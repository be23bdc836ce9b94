// What a pool is asked for by the second and in work-seconds, from readings of its demand one after the other. The counters
// are in Redis: whoever samples the same pool comes to about the same.
import { type Lane, lanes } from '@millrace/protocol';
import type { Demand, ModelWork } from './demand.ts';
import type { Fill } from './work.ts';

export interface DemandRates {
  readonly arrivalRowsPerSecond: Readonly<Record<Lane, number>>;
  /** Seconds of an inference thread, by model version: of those that ever ran. */
  readonly secondsPerRow: ReadonlyMap<string, number>;
  /** Work-seconds that have arrived per second since the last reading a second ago. What never ran counts as none, here and below. */
  readonly arrivingPerSecond: Readonly<Record<Lane, number>>;
  /** Work-seconds waiting and running; in the bulk lane also those that are to come. */
  readonly backlogSeconds: Readonly<Record<Lane, number>>;
}

/** Other rates are means over about this time. */
const windowMs = 15_000;
/**
 * What arrives at a pool without workers is read milliseconds after the reading before: over that time it would be a rate that
 * nobody has seen. Less than the second between two polls, some of which are early.
 */
const leastMs = 900;

export class DemandSampler {
  /** The oldest first; the first of them at least the window old, where there are such. */
  #readings: Demand[] = [];

  /** Takes a reading. Those of the first second know no arrivals yet. */
  note(reading: Demand): DemandRates {
    const last = this.#readings.at(-1);
    // Redis has lost its counters.
    if (last && (reading.readAt < last.readAt || reading.settledRows < last.settledRows)) this.#readings = [];
    const before = this.#readings.findLast(({ readAt }) => reading.readAt - readAt >= leastMs) ?? reading;
    this.#readings.push(reading);
    while ((this.#readings[1]?.readAt ?? Infinity) <= reading.readAt - windowMs) this.#readings.shift();
    return ratesOf(this.#readings[0] as Demand, before, reading);
  }
}

function ratesOf(from: Demand, before: Demand, to: Demand): DemandRates {
  const versions = [...to.models];
  const secondsPerRow = new Map(versions.flatMap(([model, work]) => {
    const cost = costOf(from.models.get(model)?.ran, work.ran);
    return cost === undefined ? [] : [[model, cost] as const];
  }));
  const arrived = (since: Demand, lane: Lane, model: string) => (to.models.get(model)?.arrivedRows[lane] ?? 0) - (since.models.get(model)?.arrivedRows[lane] ?? 0);
  const perSecond = (since: Demand, lane: Lane, weight: (model: string) => number) => {
    const seconds = (to.readAt - since.readAt) / 1000;
    return seconds > 0 ? versions.reduce((sum, [model]) => sum + arrived(since, lane, model) * weight(model), 0) / seconds : 0;
  };
  const weightOf = (model: string) => secondsPerRow.get(model) ?? 0;
  return {
    secondsPerRow,
    arrivalRowsPerSecond: byLane((lane) => perSecond(from, lane, () => 1)),
    arrivingPerSecond: byLane((lane) => perSecond(before, lane, weightOf)),
    backlogSeconds: byLane((lane) => {
      const inQueue = [...to.lanes[lane].models].map(([model, { waiting, running }]) => [model, waiting + running] as const);
      return [...inQueue, ...(lane === 'bulk' ? to.toCome.models : [])].reduce((sum, [model, rows]) => sum + rows * weightOf(model), 0);
    }),
  };
}

/**
 * Full micro-batches of the window say it best, then those of ever: the cost of a row changes seldom, the fill of
 * micro-batches with the load. A version that never ran in a full one is as dear as in those that it had.
 */
export function costOf(from: ModelWork['ran'] | undefined, to: ModelWork['ran']): number | undefined {
  const quotient = (fill: Fill, before: ModelWork['ran'] | undefined) => {
    const rows = to[fill].rows - (before?.[fill].rows ?? 0);
    return rows > 0 ? (to[fill].seconds - (before?.[fill].seconds ?? 0)) / rows : undefined;
  };
  return quotient('full', from) ?? quotient('full', undefined) ?? quotient('partial', from) ?? quotient('partial', undefined);
}

function byLane(figure: (lane: Lane) => number): Record<Lane, number> {
  return Object.fromEntries(lanes.map((lane) => [lane, figure(lane)])) as Record<Lane, number>;
}
