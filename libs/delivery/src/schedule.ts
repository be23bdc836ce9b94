// When a delivery is tried again, and when it is over: pure decisions.
import type { AttemptResult } from './attempt.ts';

/** Delays after the first attempt, which is made at once: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h (Standard Webhooks 1.0). */
export const defaultDelays = '5,300,1800,7200,18000,36000,50400,72000,86400';

/** Receivers that failed together should not all be called again at the same moment. */
const jitter = 0.2;
/** No delay is longer; a timer holds no more than 24 days. */
const maxDelaySeconds = 7 * 86_400;

/** What an attempt means for its delivery. `gone`: the receiver wants nothing more, ever. */
export type Verdict = 'delivered' | 'gone' | 'retry';

/** Only 2xx is success: redirects are not followed. A refused target is tried again too, since its name may come to mean another address. */
export function verdictOf(result: AttemptResult): Verdict {
  if (result.kind !== 'answered') return 'retry';
  if (result.status >= 200 && result.status < 300) return 'delivered';
  return result.status === 410 ? 'gone' : 'retry';
}

export interface AttemptsSoFar {
  readonly delaysMs: readonly number[];
  /** Attempts made, the first one included. */
  readonly attempts: number;
  /** What the receiver asked for; it can only make the wait longer. */
  readonly retryAfterMs?: number | undefined;
  /** From 0 to 1. */
  readonly random: () => number;
}

/** Milliseconds until the next attempt; undefined where there is none. */
export function nextAttemptMs({ delaysMs, attempts, retryAfterMs = 0, random }: AttemptsSoFar): number | undefined {
  const delayMs = delaysMs[attempts - 1];
  if (delayMs === undefined) return undefined;
  return Math.max(retryAfterMs, Math.round(delayMs * (1 + jitter * (2 * random() - 1))));
}

/** Reads a schedule such as `5,300,1800`, in seconds, into milliseconds. Throws with a sentence for whoever set it. */
export function readDelays(text: string): number[] {
  return text.split(',').map((part) => {
    const seconds = Number(part);
    if (!/^\s*\d+(\.\d+)?\s*$/.test(part) || seconds > maxDelaySeconds) {
      throw new Error(`the delays between attempts must be seconds from 0 to ${maxDelaySeconds}, separated by commas, such as 5,300,1800; got ${JSON.stringify(part)}`);
    }
    return Math.round(1000 * seconds);
  });
}
