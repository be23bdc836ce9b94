// The public unit of work: its states and its address.
import { randomFillSync } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';

export const outcomes = ['succeeded', 'failed', 'canceled', 'expired'] as const;
/** How a prediction ended. Nothing changes after the first outcome is written. */
export type Outcome = (typeof outcomes)[number];

export const states = ['queued', 'running', ...outcomes] as const;
export type State = (typeof states)[number];

export function isOutcome(state: State): state is Outcome {
  return state !== 'queued' && state !== 'running';
}

/** `online` is never made to wait for `bulk` work: each is a queue of its own. */
export const lanes = ['online', 'bulk'] as const;
export type Lane = (typeof lanes)[number];

/** As HTTP's urgency (RFC 9218 §4.1): 0 is the most urgent, 7 the least. */
export const priorities = { first: 0, default: 3, last: 7 } as const;

/** How often a prediction is run before a failure that may pass is final. */
export const attempts = { default: 3, most: 10 } as const;

/** A pool's name stands inside ids and Redis keys, so it is one plain word. */
export const poolPattern = '^[a-z][a-z0-9]{0,30}$';

/** Where a prediction is kept: the bundle it travels in, and its place there. Its id says both, so no record maps them. */
export interface Address {
  readonly bundleId: string;
  readonly index: number;
  readonly pool: string;
  /** When the bundle was formed, milliseconds since the epoch. */
  readonly bundledAt: number;
}

/** A new bundle's id: its pool and a UUIDv7 (RFC 9562), time-ordered and with 74 random bits. */
export function newBundleId(pool: string): string {
  return `${pool}-${uuidv7({ random: freshRandom() }).replaceAll('-', '')}`;
}

/** Before every id of a bundle that was formed at this time or later (milliseconds since the epoch). */
export function earliestBundleId(pool: string, time: number): string {
  return `${pool}-${Math.max(0, time).toString(16).padStart(12, '0')}`;
}

const randomPool = new Uint8Array(4096);
let randomUsed = randomPool.length;

/** 16 random bytes. The operating system is asked for many at a time: one call costs more than the rest of an id. */
function freshRandom(): Uint8Array {
  if (randomUsed === randomPool.length) {
    randomFillSync(randomPool);
    randomUsed = 0;
  }
  randomUsed += 16;
  return randomPool.subarray(randomUsed - 16, randomUsed);
}

export function predictionId(bundleId: string, index: number): string {
  return `${bundleId}-${index}`;
}

const idPattern = /^([a-z][a-z0-9]{0,30})-([0-9a-f]{12})(7[0-9a-f]{19})-(0|[1-9][0-9]?)$/;

/** Reads a prediction's id; undefined where it is none. */
export function parsePredictionId(id: string): Address | undefined {
  const match = idPattern.exec(id);
  if (!match) return undefined;
  const [, pool = '', time = '', rest = '', index = ''] = match;
  return { bundleId: `${pool}-${time}${rest}`, index: Number(index), pool, bundledAt: Number.parseInt(time, 16) };
}
