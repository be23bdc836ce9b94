// The policy: what it asks for, and what it never does.
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Decision, decide, initialState, type State } from './policy.ts';
import type { Limits, Reading } from './reading.ts';

const limits: Limits = { minReplicas: 0, maxReplicas: 100, targetSeconds: 5, bulkDrainSeconds: 600, utilisation: 0.8, scaleInDelaySeconds: 300, idleSeconds: 120, staleSeconds: 30, startSeconds: 5 };

function reading(change: Partial<Reading> = {}): Reading {
  return { measuredAt: 0, rows: { online: 0, bulk: 0 }, backlogSeconds: { online: 0, bulk: 0 }, onlineArrivingPerSecond: 0, oldestSeconds: { online: 0, bulk: 0 }, ready: 0, threadsPerReplica: 1, ...change };
}

/** Work that arrives at such a rate and is served at once by so many. */
function served(arriving: number, ready: number): Partial<Reading> {
  return { rows: { online: Math.ceil(arriving), bulk: 0 }, backlogSeconds: { online: arriving / 10, bulk: 0 }, onlineArrivingPerSecond: arriving, ready };
}

/** Decides once a second; what the fleet is follows at once. */
function play(seconds: number, readingAt: (second: number, ready: number) => Partial<Reading> | undefined, { from = initialState(1, 0), with: limitsOf = limits, start = 0 }: { from?: State; with?: Limits; start?: number } = {}): Decision[] {
  const decisions: Decision[] = [];
  let state = from;
  for (let second = start + 1; second <= start + seconds; second++) {
    const change = readingAt(second, state.desired);
    const decision = decide(state, change && reading({ measuredAt: second * 1000, ...change }), limitsOf, second * 1000);
    state = decision.state;
    decisions.push(decision);
  }
  return decisions;
}

function last(decisions: readonly Decision[]): Decision {
  return decisions.at(-1) as Decision;
}

function changes(decisions: readonly Decision[]): number {
  return decisions.filter(({ desired }, place) => place > 0 && desired !== decisions[place - 1]?.desired).length;
}

test('the first row starts the first replica, measured or not', () => {
  expect(decide(initialState(0, 0), reading({ rows: { online: 1, bulk: 0 } }), limits, 0)).toMatchObject({ desired: 1 });
  expect(decide(initialState(0, 0), reading({ rows: { online: 0, bulk: 1 } }), limits, 0)).toMatchObject({ desired: 1 });
});

test('an empty pool with no replica starts none', () => {
  // The first decision may fall into the same millisecond as the state that it starts from.
  expect(decide(initialState(0, 0), reading(), limits, 0)).toMatchObject({ desired: 0 });
  expect(last(play(600, () => ({}), { from: initialState(0, 0) }))).toMatchObject({ desired: 0, reason: 'idle' });
});

test('arrivals get threads with headroom', () => {
  const from = initialState(8, 0);
  expect(last(play(60, (_, ready) => served(8, ready), { from }))).toMatchObject({ desired: 10, reason: 'arrivals' });
  expect(last(play(600, (_, ready) => ({ ...served(8, ready), threadsPerReplica: 4 }), { from }))).toMatchObject({ desired: 3, reason: 'arrivals' });
});

test('after a step one decision orders what the new level needs', () => {
  const before = play(300, (_, ready) => served(1, ready));
  const fleet = last(before).desired;
  const step = { onlineArrivingPerSecond: 10, rows: { online: 90, bulk: 0 }, backlogSeconds: { online: 9, bulk: 0 }, ready: fleet, measuredAt: 301_000 };
  expect(decide(last(before).state, reading(step), limits, 301_000).desired).toBeGreaterThanOrEqual(10 / 0.8);
});

test('what starts is not ordered again, however long it takes', () => {
  const slow = { ...limits, startSeconds: 60 };
  const fleet = last(play(300, (_, ready) => served(1, ready), { with: slow }));
  const cold = play(59, (second) => {
    const backlog = (10 - fleet.desired) * (second - 300);
    return { onlineArrivingPerSecond: 10, rows: { online: 10 * backlog, bulk: 0 }, backlogSeconds: { online: backlog, bulk: 0 }, oldestSeconds: { online: backlog / 10, bulk: 0 }, ready: fleet.desired };
  }, { from: fleet.state, with: slow, start: 300 });
  const ordered = cold.find(({ desired }) => desired >= 10)?.desired as number;
  expect(last(cold).desired).toBe(ordered);
});

test('a backlog is drained though nothing arrives any more', () => {
  const decision = decide(initialState(2, 0), reading({ rows: { online: 1000, bulk: 0 }, backlogSeconds: { online: 100, bulk: 0 }, ready: 2 }), limits, 0);
  expect(decision).toMatchObject({ reason: 'backlog' });
  // 90 are left when the new ones have started; in 5 s more so many leave what they do in 2.5 s.
  expect(decision.desired).toBe(12);
});

test('bulk work gets what drains it in its own time', () => {
  const bulk = (seconds: number, oldest: number) => reading({ rows: { online: 0, bulk: 10_000 }, backlogSeconds: { online: 0, bulk: seconds }, oldestSeconds: { online: 0, bulk: oldest }, ready: 1 });
  expect(decide(initialState(1, 0), bulk(6000, 0), limits, 0)).toMatchObject({ desired: 10, reason: 'bulk' });
  expect(decide(initialState(1, 0), bulk(3000, 300), limits, 0)).toMatchObject({ desired: 10, reason: 'bulk' });
});

test('a wait that nothing measured explains brings a quarter more at a time', () => {
  const stuck = play(60, (second, ready) => ({ rows: { online: 500, bulk: 0 }, oldestSeconds: { online: second, bulk: 0 }, ready }));
  expect([...new Set(stuck.map(({ desired }) => desired))]).toEqual([1, 2, 3, 4, 5, 7]);
  expect(stuck.map(({ reason }) => reason)).toContain('oldest');
});

test('one old row beside a pool that keeps up changes nothing', () => {
  const decisions = play(600, (second, ready) => ({ ...served(8, ready), oldestSeconds: { online: second, bulk: 0 } }), { from: initialState(10, 0) });
  expect(changes(decisions)).toBe(0);
});

test('replicas that a backlog needs stay until it is gone', () => {
  const slow = { ...limits, startSeconds: 60 };
  const behind = { ...served(5, 10), rows: { online: 500, bulk: 0 }, backlogSeconds: { online: 550, bulk: 0 } };
  expect(changes(play(600, () => behind, { from: initialState(10, 0), with: slow }))).toBe(0);
});

test('fewer must have been enough for the whole delay', () => {
  const busy = last(play(60, (_, ready) => served(8, ready)));
  const quiet = play(1200, (_, ready) => served(1, ready), { from: busy.state, start: 60 });
  const fell = quiet.findIndex(({ desired }) => desired < busy.desired);
  expect(fell).toBeGreaterThanOrEqual(limits.scaleInDelaySeconds);
  expect(last(quiet).desired).toBe(2);
});

test('to zero after the idle time, and not before', () => {
  const decisions = play(200, (second, ready) => (second === 10 ? served(1, ready) : { ready }));
  expect(decisions.findIndex(({ desired }) => desired === 0)).toBe(10 + limits.idleSeconds - 1);
  expect(last(play(2000, (_, ready) => ({ ready }), { with: { ...limits, minReplicas: 1 } }))).toMatchObject({ desired: 1 });
});

test('to any minimum after the idle time, whatever there was to do before', () => {
  const decisions = play(200, (second, ready) => (second < 10 ? { rows: { online: 1000, bulk: 0 }, backlogSeconds: { online: 500, bulk: 0 }, ready } : { ready }), { with: { ...limits, minReplicas: 2 } });
  expect(decisions[9]?.desired).toBeGreaterThan(10);
  expect(decisions.findIndex(({ reason }) => reason === 'idle')).toBe(9 + limits.idleSeconds - 1);
  expect(last(decisions)).toMatchObject({ desired: 2 });
});

test('after a scale-in that had to be taken back, the next waits longer', () => {
  const phases = [8, 1, 8, 1].map((arriving) => ({ arriving, seconds: arriving === 8 ? 120 : 1500 }));
  let [from, start] = [initialState(10, 0), 0];
  const waits: number[] = [];
  for (const { arriving, seconds } of phases) {
    const decisions = play(seconds, (_, ready) => ({ ...served(arriving, ready), backlogSeconds: { online: arriving === 8 ? 50 : 0.1, bulk: 0 } }), { from, start });
    const fell = decisions.findIndex(({ desired }) => desired < from.desired);
    if (arriving === 1) waits.push(fell);
    // The second burst comes as soon as the first scale-in is done.
    const end = arriving === 1 && fell > 0 ? fell + 1 : seconds;
    from = (decisions[end - 1] as Decision).state;
    start += end;
  }
  expect(waits[1]).toBeGreaterThan(1.5 * (waits[0] as number));
});

const count = fc.integer({ min: 0, max: 60 });
const amount = fc.double({ min: 0, max: 1e6, noNaN: true });
const lanesOf = (figure: fc.Arbitrary<number>) => fc.record({ online: figure, bulk: figure });
const anyReading = fc.record({
  measuredAt: fc.constant(1_000_000), rows: lanesOf(fc.nat(1_000_000)), backlogSeconds: lanesOf(amount), onlineArrivingPerSecond: amount, oldestSeconds: lanesOf(amount), ready: count, threadsPerReplica: fc.integer({ min: 1, max: 64 }),
});
const anyLimits = fc.record({ min: count, more: fc.nat(60), idle: fc.nat(600), start: fc.nat(120) }).map(({ min, more, idle, start }): Limits =>
  ({ ...limits, minReplicas: min, maxReplicas: min + more, idleSeconds: idle, startSeconds: start }));
/** As it is after some other decision. */
const anyState = fc.tuple(count, anyReading, anyLimits, fc.integer({ min: 0, max: 999 })).map(([replicas, before, with_, second]) =>
  decide(initialState(replicas, 0), { ...before, measuredAt: second * 1000 }, with_, second * 1000).state);

test('desired is a whole number within the limits, whatever is read', () => {
  fc.assert(fc.property(anyState, anyReading, anyLimits, (state, read, limits) => {
    const { desired } = decide(state, read, limits, 1_000_000);
    expect(Number.isInteger(desired)).toBe(true);
    expect(desired).toBeGreaterThanOrEqual(limits.minReplicas);
    expect(desired).toBeLessThanOrEqual(limits.maxReplicas);
  }));
});

test('more backlog, more arrivals or older work never mean fewer', () => {
  fc.assert(fc.property(anyState, anyReading, anyLimits, fc.constantFrom('backlog', 'bulk', 'arrivals', 'age'), fc.double({ min: 1, max: 100, noNaN: true }), (state, read, limits, what, factor) => {
    const { backlogSeconds: backlog, oldestSeconds: oldest, onlineArrivingPerSecond: arriving } = read;
    const more = {
      backlog: { backlogSeconds: { ...backlog, online: factor * backlog.online } },
      bulk: { backlogSeconds: { ...backlog, bulk: factor * backlog.bulk } },
      arrivals: { onlineArrivingPerSecond: factor * arriving },
      age: { oldestSeconds: { online: factor * oldest.online, bulk: factor * oldest.bulk } },
    }[what];
    expect(decide(state, { ...read, ...more }, limits, 1_000_000).desired).toBeGreaterThanOrEqual(decide(state, read, limits, 1_000_000).desired);
  }));
});

test('a clock that steps back leaves the average as it was', () => {
  const before = last(play(60, (_, ready) => served(8, ready), { from: initialState(10, 100_000), start: 100 })).state;
  const at = (state: State, now: number) => decide(state, reading({ ...served(20, 10), measuredAt: now }), limits, now).state;
  // To before the first reading, to the time of it, and on.
  const after = [93_000, 100_000, 130_000].reduce(at, before);
  expect(after.arriving).toEqual(before.arriving);
  const { mean } = at(after, 161_000).arriving;
  expect([mean > 8, mean < 9]).toEqual([true, true]);
});

test('never to zero while anything waits, runs or arrives', () => {
  fc.assert(fc.property(anyState, anyReading, anyLimits, (state, read, limits) => {
    fc.pre(limits.maxReplicas > 0 && (read.rows.online > 0 || read.rows.bulk > 0 || read.onlineArrivingPerSecond > 0));
    expect(decide(state, read, limits, 1_000_000).desired).toBeGreaterThan(0);
  }));
});

const nonsense = fc.constantFrom(NaN, Infinity, -Infinity, -1, -1e-9);
const broken = fc.oneof(
  fc.constant(undefined),
  fc.tuple(anyReading, nonsense).map(([read, value]) => ({ ...read, onlineArrivingPerSecond: value })),
  fc.tuple(anyReading, nonsense, fc.constantFrom('rows', 'backlogSeconds', 'oldestSeconds'), fc.constantFrom('online', 'bulk')).map(([read, value, figure, lane]) => ({ ...read, [figure]: { ...read[figure], [lane]: value } })),
  fc.tuple(anyReading, fc.constantFrom('ready', 'threadsPerReplica', 'measuredAt'), nonsense).map(([read, figure, value]) => ({ ...read, [figure]: value })),
  anyReading.map((read) => ({ ...read, threadsPerReplica: 0 })),
  anyReading.map((read) => ({ ...read, measuredAt: 1_000_000 - limits.staleSeconds * 1000 - 1 })),
);

test('without a reading that can be trusted, nothing shrinks', () => {
  fc.assert(fc.property(anyState, broken, anyLimits, fc.integer({ min: 1, max: 1e9 }), (state, read, limits, later) => {
    const now = read === undefined ? later : 1_000_000;
    const { desired, reason } = decide(state, read, limits, now);
    expect(reason).toBe('no-metrics');
    expect(desired).toBeGreaterThanOrEqual(state.desired);
  }));
});

test('a constant load is met by one change and then by none', () => {
  fc.assert(fc.property(fc.double({ min: 0.01, max: 60, noNaN: true }), fc.integer({ min: 1, max: 8 }), count, (arriving, threadsPerReplica, replicas) => {
    const decisions = play(3600, (_, ready) => ({ ...served(arriving, ready), threadsPerReplica }), { from: initialState(replicas, 0) });
    expect(changes(decisions)).toBeLessThanOrEqual(1);
    expect(last(decisions).desired * threadsPerReplica).toBeGreaterThanOrEqual(arriving);
  }), { numRuns: 50 });
});

test('noise around a constant load moves the fleet at most twice an hour', () => {
  fc.assert(fc.property(fc.double({ min: 0.5, max: 60, noNaN: true }), fc.infiniteStream(fc.double({ min: 0.6, max: 1.4, noNaN: true })), (arriving, noise) => {
    const settled = last(play(600, (_, ready) => served(arriving, ready)));
    const hour = play(3600, (_, ready) => served(arriving * noise.next().value, ready), { from: settled.state, start: 600 });
    expect(changes(hour)).toBeLessThanOrEqual(2);
  }), { numRuns: 50 });
});
