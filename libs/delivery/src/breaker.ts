// Whether a host may be called: a host that fails is left alone for a while, and then asked by one attempt at a time.
import type { AttemptResult } from './attempt.ts';

/** It opens after so many failures in a row … */
const failuresInRow = 10;
/** … or where more than half of the results of the last minute are failures, if there are enough to tell. */
const windowSeconds = 60;
const leastResults = 20;
const shortestOpenMs = 30_000;
const longestOpenMs = 600_000;
/** A probe that has told nothing for so long is lost, and another may start. An attempt takes half of it at most. */
const probeMs = 60_000;

interface Second {
  readonly at: number;
  results: number;
  failures: number;
}

/** The state of one host. Times are milliseconds of a clock that never goes back. */
export class Breaker {
  #state: 'closed' | 'open' | 'probing' = 'closed';
  #openUntil = 0;
  #openMs = shortestOpenMs;
  #failuresInRow = 0;
  #seconds: Second[] = [];

  /** Until when nothing may start; undefined while everything may. */
  get openUntil(): number | undefined {
    return this.#state === 'closed' ? undefined : this.#openUntil;
  }

  /** Whether an attempt may start now. Where the time is over, the first who asks has the probe and must tell how it went. */
  mayStart(now: number): boolean {
    if (this.#state === 'closed') return true;
    if (now < this.#openUntil) return false;
    this.#state = 'probing';
    this.#openUntil = now + probeMs;
    return true;
  }

  /** The host has answered. While the breaker is open, only the probe counts: what had started before may come in late. */
  succeeded(now: number): void {
    if (this.#state === 'open') return;
    if (this.#state === 'probing') this.#close();
    this.#failuresInRow = 0;
    this.#note(now).results++;
  }

  /** What had the probe did not call the host after all: another may. */
  released(now: number): void {
    if (this.#state !== 'probing') return;
    this.#state = 'open';
    this.#openUntil = now;
  }

  failed(now: number): void {
    if (this.#state === 'open') return;
    if (this.#state === 'probing') return this.#open(now, Math.min(longestOpenMs, 2 * this.#openMs));
    const second = this.#note(now);
    second.results++;
    second.failures++;
    this.#failuresInRow++;
    if (this.#failuresInRow >= failuresInRow || this.#mostFail()) this.#open(now, shortestOpenMs);
  }

  #open(now: number, openMs: number): void {
    this.#state = 'open';
    this.#openMs = openMs;
    this.#openUntil = now + openMs;
  }

  #close(): void {
    this.#state = 'closed';
    this.#seconds = [];
  }

  /** The counts of this second, after those that have left the window are forgotten. */
  #note(now: number): Second {
    const at = Math.floor(now / 1000);
    const last = this.#seconds.at(-1);
    if (last?.at === at) return last;
    const second = { at, results: 0, failures: 0 };
    this.#seconds = [...this.#seconds.filter((old) => old.at > at - windowSeconds), second];
    return second;
  }

  #mostFail(): boolean {
    let results = 0;
    let failures = 0;
    for (const second of this.#seconds) {
      results += second.results;
      failures += second.failures;
    }
    return results >= leastResults && 2 * failures > results;
  }
}

/** Whether a result speaks against the host. One that answers 404 or 410 is alive, and a refused target was never called. */
export function hostFailed(result: AttemptResult): boolean {
  switch (result.kind) {
    case 'answered': return result.status >= 500 || result.status === 408 || result.status === 429;
    case 'failed': return true;
    case 'refused': return false;
  }
}
