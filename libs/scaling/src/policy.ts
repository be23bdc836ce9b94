// How many replicas a pool should have: a pure decision over what it is asked for and what serves it.
import { lanes } from '@millrace/protocol';
import { averageOf } from './average.ts';
import { type Fleet, isWaiting, needOf, type Reason } from './need.ts';
import { isSound, type Limits, type Reading } from './reading.ts';

export interface Decision {
  readonly desired: number;
  readonly reason: Reason;
  readonly state: State;
}

/** What the next decision needs of this one; its content is the policy's own. Times in milliseconds of the clock that it is given. */
export interface State extends Fleet {
  /** When anything last waited, ran or arrived. */
  readonly busyAt: number;
  readonly lastInAt: number;
  /** Times the scale-in delay: more after replicas were missed soon after they had been taken away. */
  readonly caution: number;
  /** Since when fewer would do without a break, and the most that were wanted since; undefined where they would not. */
  readonly fewer: { readonly since: number; readonly most: number } | undefined;
}

/** 16 × 5 minutes: whoever has to take back what it decided does so once in 80 minutes at most. */
const mostCaution = 16;

/** The state of an autoscaler that starts, `replicas` being what it finds running. */
export function initialState(replicas: number, now: number): State {
  return { desired: replicas, arriving: { mean: 0, deviation: 0, since: now, at: now }, busyAt: now, lastOutAt: -Infinity, lastInAt: -Infinity, caution: 1, fewer: undefined };
}

/**
 * Decides for one pool; call it at every poll with the state of the decision before. `now`: milliseconds of a clock that nobody
 * sets, since only differences count.
 */
export function decide(before: State, reading: Reading | undefined, limits: Limits, now: number): Decision {
  if (!reading || now - reading.measuredAt > limits.staleSeconds * 1000 || !isSound(reading)) return hold(before, reading, limits);
  const state = observe(before, reading, limits, now);
  const isBusy = hasWork(reading);
  const isIdle = !isBusy && now - state.busyAt >= limits.idleSeconds * 1000;
  if (isIdle && (limits.minReplicas === 0 || state.desired > limits.minReplicas)) return scaleTo(limits.minReplicas, 'idle', state, limits, now);

  // An empty pool keeps one until it has been idle for long enough, and starts none.
  const need = needOf(state, { reading, limits, now, least: isBusy ? 1 : Math.min(1, state.desired) });
  const { desired } = state;
  if (need.urgent > desired) return scaleTo(need.replicas, need.reason, state, limits, now);
  if (desired > limits.maxReplicas) return scaleTo(limits.maxReplicas, 'maximum', state, limits, now);
  if (need.ample >= desired) return { desired, reason: need.reason, state: { ...state, fewer: undefined } };

  const fewer = { since: state.fewer?.since ?? now, most: Math.max(state.fewer?.most ?? 0, need.replicas) };
  if (now - fewer.since < delayMs(state, limits)) return { desired, reason: 'cooldown', state: { ...state, fewer } };
  return scaleTo(fewer.most, need.reason, state, limits, now);
}

function observe(before: State, reading: Reading, limits: Limits, now: number): State {
  const { onlineArrivingPerSecond: value, measuredAt: at } = reading;
  return { ...before, arriving: averageOf(before.arriving, { value, at, mayJump: isWaiting(reading, limits) }), busyAt: hasWork(reading) ? now : before.busyAt };
}

/** Whether anything waits, runs or arrives. */
function hasWork({ onlineArrivingPerSecond, rows }: Reading): boolean {
  return onlineArrivingPerSecond > 0 || lanes.some((lane) => rows[lane] > 0);
}

function scaleTo(desired: number, reason: Reason, state: State, limits: Limits, now: number): Decision {
  const changed = { ...state, desired, fewer: undefined };
  if (desired <= state.desired) return { desired, reason, state: { ...changed, lastInAt: desired === 0 ? state.lastInAt : now } };
  // What was saved since the last scale-in was not worth it: the next one has to be surer.
  const isRegretted = now - state.lastInAt < 3 * delayMs(state, limits);
  const caution = isRegretted ? Math.min(mostCaution, 2 * state.caution) : Math.max(1, state.caution / 2);
  return { desired, reason, state: { ...changed, lastOutAt: now, caution } };
}

function delayMs({ caution }: State, { scaleInDelaySeconds }: Limits): number {
  return caution * scaleInDelaySeconds * 1000;
}

/** Never fewer; the first one where rows wait, whatever they cost. */
function hold(state: State, reading: Reading | undefined, { minReplicas, maxReplicas }: Limits): Decision {
  const isBusy = reading !== undefined && lanes.some((lane) => reading.rows[lane] > 0);
  const desired = Math.max(state.desired, minReplicas, isBusy ? Math.min(1, maxReplicas) : 0);
  return { desired, reason: 'no-metrics', state: { ...state, desired, fewer: undefined } };
}
