// How many rows a bulk micro-batch has while online predictions come: each of them waits for one. By what runs have taken.
import type { ModelVersion } from '@millrace/models';

/** About what an online prediction waits at most: as long as many a small prediction takes itself. */
const longestMs = 3;
/** Where a small micro-batch takes more than this share of a full one's time, the wait is hardly shorter and bulk much slower. */
const worthwhile = 1 / 3;
/** Weight of the newest value in the moving averages. */
const newest = 0.2;
/** How fast the cost of small ones is forgotten while full ones run: they are tried again after some tens of runs. */
const forgotten = 0.02;

/** Milliseconds a row; undefined until measured. */
interface Cost {
  full: number | undefined;
  small: number | undefined;
}

export class Pace {
  readonly #costs = new WeakMap<ModelVersion, Cost>();

  /** `maxRows`: a full micro-batch of the version. */
  rowsBesideOnline(version: ModelVersion, maxRows: number): number {
    const { full, small = 0 } = this.#costs.get(version) ?? {};
    if (full === undefined) return maxRows;
    const few = this.#few(full, maxRows);
    return few * small > worthwhile * maxRows * full ? maxRows : few;
  }

  ran(version: ModelVersion, { rows, ms, maxRows }: { readonly rows: number; readonly ms: number; readonly maxRows: number }): void {
    const cost = this.#costs.get(version) ?? { full: undefined, small: undefined };
    this.#costs.set(version, cost);
    const { full, small } = cost;
    if (rows === maxRows) {
      cost.full = averaged(full, ms / rows, newest);
      if (small !== undefined) cost.small = averaged(small, cost.full, forgotten);
    } else if (full !== undefined && rows === this.#few(full, maxRows)) {
      cost.small = averaged(small, ms / rows, newest);
    }
  }

  #few(msPerRow: number, maxRows: number): number {
    return Math.max(1, Math.min(maxRows, Math.floor(longestMs / msPerRow)));
  }
}

function averaged(before: number | undefined, value: number, weight: number): number {
  return before === undefined ? value : before + weight * (value - before);
}
