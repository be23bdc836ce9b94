import { lanes } from '@millrace/protocol';
import { expect, test } from 'vitest';
import type { Demand, LaneDemand, ModelWork } from './demand.ts';
import { DemandSampler } from './demand-rates.ts';

const none: LaneDemand = { rows: 0, running: 0, models: new Map(), tenants: new Map(), oldestSeconds: 0 };

/** Of the version `m@1`: rows that arrived online, and rows and seconds by fill, all of them ever. */
function reading(seconds: number, { arrived = 0, full = [0, 0], partial = [0, 0], waiting = 0, settledRows = 0 }: {
  arrived?: number; full?: [number, number]; partial?: [number, number]; waiting?: number; settledRows?: number;
}): Demand {
  const work: ModelWork = { arrivedRows: { online: arrived, bulk: 0 }, ran: { full: { rows: full[0], seconds: full[1] }, partial: { rows: partial[0], seconds: partial[1] } } };
  const online: LaneDemand = { ...none, rows: waiting, models: new Map([['m@1', { waiting, running: 0 }]]) };
  return { readAt: 1000 * seconds, lanes: { online, bulk: none }, models: new Map([['m@1', work]]), settledRows, replicas: [], toCome: { rows: 0, models: new Map(), ageSeconds: 0 }, decision: undefined };
}

test('arrivals are a mean over the window, and none are known at first', () => {
  const sampler = new DemandSampler();
  expect(sampler.note(reading(0, { arrived: 1000 })).arrivalRowsPerSecond).toEqual({ online: 0, bulk: 0 });
  // 20 a second, from the 31st on 80.
  const perSecond = Array.from({ length: 60 }, (_, place) => {
    const second = place + 1;
    return sampler.note(reading(second, { arrived: 1000 + 20 * second + 60 * Math.max(0, second - 30) })).arrivalRowsPerSecond.online;
  });
  expect([new Set(perSecond.slice(0, 30)), new Set(perSecond.slice(45))]).toEqual([new Set([20]), new Set([80])]);
});

test('a row costs what it costs in full micro-batches: the latest ones, else any ever, else what there is', () => {
  const sampler = new DemandSampler();
  const costOf = (demand: Demand) => sampler.note(demand).secondsPerRow.get('m@1');
  expect(costOf(reading(0, {}))).toBeUndefined();
  expect(costOf(reading(1, { partial: [10, 1] }))).toBeCloseTo(0.1);
  expect(costOf(reading(2, { partial: [20, 2], full: [100, 1] }))).toBeCloseTo(0.01);
  // Only small ones for longer than the window.
  expect(costOf(reading(30, { partial: [200, 20], full: [100, 1] }))).toBeCloseTo(0.01);
  // The machine is a slower one now.
  expect(costOf(reading(60, { partial: [200, 20], full: [200, 3] }))).toBeCloseTo(0.02);
});

test('work that waits and work that arrives are rows times their cost', () => {
  const sampler = new DemandSampler();
  sampler.note(reading(0, { arrived: 0, full: [100, 1] }));
  const rates = sampler.note(reading(10, { arrived: 500, full: [100, 1], waiting: 300 }));
  expect([rates.arrivingPerSecond.online, rates.backlogSeconds.online]).toEqual([expect.closeTo(0.5), expect.closeTo(3)]);
});

test('work arrives at the rate of the last two readings: whoever decides must not see a step late', () => {
  const sampler = new DemandSampler();
  const rates = [0, 10, 20, 520].map((arrived, second) => sampler.note(reading(second, { arrived, full: [100, 1] })).arrivingPerSecond.online);
  expect(rates).toEqual([0, expect.closeTo(0.1), expect.closeTo(0.1), expect.closeTo(5)]);
});

test('what comes right after a reading counts over a second: it wakes whoever reads, and over milliseconds would be a rate that nobody has seen', () => {
  const sampler = new DemandSampler();
  const rates = [[0, 0], [0.005, 10], [1, 10], [1.005, 110], [2.005, 110]].map(([second = 0, arrived = 0]) => sampler.note(reading(second, { arrived, full: [100, 1] })).arrivingPerSecond.online);
  expect(rates).toEqual([0, 0, 0, expect.closeTo(1), 0]);
});

test('counters that went back are counted anew', () => {
  const sampler = new DemandSampler();
  sampler.note(reading(0, { arrived: 900, settledRows: 900 }));
  const rates = sampler.note(reading(10, { arrived: 30, settledRows: 20 }));
  expect(lanes.map((lane) => rates.arrivalRowsPerSecond[lane])).toEqual([0, 0]);
});
