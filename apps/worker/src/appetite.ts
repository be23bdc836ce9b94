// How much a replica wants to hold, from what it has measured of itself.
import { bundlesToClaim } from '@millrace/batching';

/** Weight of the newest value in the moving averages. */
const newest = 0.2;

export class Appetite {
  readonly #threads: number;
  #rowsPerBundle = 1;
  #secondsPerRow = 0;

  constructor(threads: number) {
    this.#threads = threads;
  }

  claimed(rows: number): void {
    this.#rowsPerBundle += newest * (rows - this.#rowsPerBundle);
  }

  ran(rows: number, seconds: number): void {
    this.#secondsPerRow += newest * (seconds / rows - this.#secondsPerRow);
  }

  /** Bundles to hold, while micro-batches of so many rows run. */
  bundles(maxRows: number): number {
    return bundlesToClaim({ maxRows, threads: this.#threads, rowsPerBundle: this.#rowsPerBundle, secondsPerRow: this.#secondsPerRow });
  }
}
