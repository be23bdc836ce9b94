// What arrives at a simulated pool: rows with the seconds that each costs, known before the run so that every scaler gets
// the same.
import type { Lane } from '@millrace/protocol';

/** Rows in order of arrival, in columns; a run has some hundred thousand. */
export interface Traffic {
  readonly seconds: number;
  readonly arrivesAt: Float64Array;
  /** Of one thread, beside the micro-batch's own. */
  readonly workSeconds: Float64Array;
  readonly lane: readonly Lane[];
}

export interface Arrivals {
  readonly seconds: number;
  /** Rows per second at a time. */
  readonly rate: (second: number) => number;
  /** No rate is above it. */
  readonly peak: number;
  readonly workSeconds: number;
  /** Standard deviation of the rows' cost ÷ its mean; log-normal. 0: all cost the same. */
  readonly workVariation: number;
}

/** A Poisson process of that rate, thinned from one of the peak's rate. */
export function onlineTraffic({ seconds, rate, peak, workSeconds, workVariation }: Arrivals, random: () => number): Traffic {
  const arrivesAt: number[] = [];
  for (let at = exponential(1 / peak, random); at < seconds; at += exponential(1 / peak, random)) {
    if (random() * peak < rate(at)) arrivesAt.push(at);
  }
  const cost = logNormal(workSeconds, workVariation, random);
  return { seconds, arrivesAt: Float64Array.from(arrivesAt), workSeconds: Float64Array.from(arrivesAt, cost), lane: arrivesAt.map(() => 'online') };
}

/** The same with bulk rows that land all at once, as a backfill's do. */
export function withBackfill(traffic: Traffic, { at, rows, workSeconds }: { at: number; rows: number; workSeconds: number }): Traffic {
  const place = traffic.arrivesAt.findIndex((arrival) => arrival > at);
  const insert = (column: Float64Array, value: number) => Float64Array.from([...column.subarray(0, place), ...Array<number>(rows).fill(value), ...column.subarray(place)]);
  return {
    seconds: traffic.seconds,
    arrivesAt: insert(traffic.arrivesAt, at),
    workSeconds: insert(traffic.workSeconds, workSeconds),
    lane: [...traffic.lane.slice(0, place), ...Array<Lane>(rows).fill('bulk'), ...traffic.lane.slice(place)],
  };
}

/** A rate that is multiplied, every so often, by noise which lasts: log-normal around 1, in steps, each remembering half of the one before. */
export function noisy(rate: (second: number) => number, { seconds, stepSeconds, variation }: { seconds: number; stepSeconds: number; variation: number }, random: () => number): (second: number) => number {
  const memory = 0.5;
  const factors: number[] = [];
  let level = 0;
  for (let step = 0; step * stepSeconds <= seconds; step++) {
    level = memory * level + Math.sqrt(1 - memory ** 2) * normal(random);
    factors.push(Math.exp(variation * level - variation ** 2 / 2));
  }
  return (second) => rate(second) * (factors[Math.floor(second / stepSeconds)] as number);
}

/** On for a while and off for a while, both exponentially long. To be asked in order of time. */
export function onOff(onRate: number, { seconds, onSeconds, offSeconds }: { seconds: number; onSeconds: number; offSeconds: number }, random: () => number): (second: number) => number {
  const changes: number[] = [];
  for (let at = 0; at < seconds; at += exponential(changes.length % 2 === 1 ? onSeconds : offSeconds, random)) changes.push(at);
  let place = 0;
  return (second) => {
    while (place + 1 < changes.length && (changes[place + 1] as number) <= second) place++;
    return place % 2 === 0 ? onRate : 0;
  };
}

function exponential(mean: number, random: () => number): number {
  return -mean * Math.log(1 - random());
}

function normal(random: () => number): number {
  return Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
}

function logNormal(mean: number, variation: number, random: () => number): () => number {
  const variance = Math.log(1 + variation ** 2);
  return () => mean * Math.exp(Math.sqrt(variance) * normal(random) - variance / 2);
}
