// How fast a pool gets its work done, in rows per second: what a caller who is refused is told to wait by.

export interface DrainReading {
  /** Milliseconds, of a clock that never goes back. */
  readonly at: number;
  /** Rows accepted and not settled. */
  readonly rows: number;
  /** Rows ever settled. */
  readonly settled: number;
}

/** A mean whose older readings fade with this time. */
const fadeSeconds = 10;
/** A pool that has settled nothing for so long, though rows waited, stands still. */
const stillSeconds = 10;
const retryAfter = { leastSeconds: 1, mostSeconds: 300, whileNothingDrainsSeconds: 30 } as const;

export class DrainRate {
  #last: DrainReading | undefined;
  #movedAt = 0;
  #rowsPerSecond: number | undefined;

  /** Undefined until work has been seen to drain; while a pool stands still it sinks towards 0. */
  get rowsPerSecond(): number | undefined {
    return this.#rowsPerSecond;
  }

  get standsStill(): boolean {
    return this.#last !== undefined && this.#last.at - this.#movedAt > 1000 * stillSeconds;
  }

  /** When to try again where so many rows have to drain first. */
  retryAfterSeconds(rows: number): number {
    const { leastSeconds, mostSeconds, whileNothingDrainsSeconds } = retryAfter;
    if (this.standsStill || !this.#rowsPerSecond) return whileNothingDrainsSeconds;
    return Math.min(mostSeconds, Math.max(leastSeconds, Math.ceil(rows / this.#rowsPerSecond)));
  }

  /**
   * Takes a reading. Only times in which at least as much waited as was done say how fast the workers are: otherwise
   * they had to wait for work, and the rate would be that of the arrivals.
   */
  note(reading: DrainReading): void {
    const stoodStill = this.standsStill;
    const last = this.#last ?? reading;
    const seconds = (reading.at - last.at) / 1000;
    const settled = reading.settled - last.settled;
    const heldUp = Math.min(last.rows, reading.rows) >= Math.max(1, settled);
    if (!this.#last || settled !== 0 || !heldUp) this.#movedAt = reading.at;
    this.#last = reading;
    // Fewer than before: Redis has lost the counter.
    if (seconds <= 0 || settled < 0 || !heldUp) return;
    const measured = settled / seconds;
    if (this.#rowsPerSecond === undefined || (stoodStill && settled > 0)) this.#rowsPerSecond = settled > 0 ? measured : undefined;
    else this.#rowsPerSecond += (1 - Math.exp(-seconds / fadeSeconds)) * (measured - this.#rowsPerSecond);
  }
}
