// What running rows has cost, until it is written down with the results of those rows (work.lua): so a replica that dies takes
// the rows along with the time. Rows of micro-batches that were at least half full are counted by themselves. At low load
// micro-batches are small and a row in them looks dear; what a backlog will cost is what rows cost in full ones.

export const fills = ['full', 'partial'] as const;
export type Fill = (typeof fills)[number];

export class Work {
  readonly #done: Record<Fill, { rows: number; ms: number }> = { full: { rows: 0, ms: 0 }, partial: { rows: 0, ms: 0 } };

  /** `busyMs`: what the rows had of an inference thread, in a micro-batch of `batchRows` where a full one has `fullRows`. */
  ran(rows: number, { busyMs, batchRows }: { readonly busyMs: number; readonly batchRows: number }, fullRows: number): void {
    const done = this.#done[2 * batchRows >= fullRows ? 'full' : 'partial'];
    done.rows += rows;
    done.ms += busyMs;
  }

  /** As the scripts take it, in rows and µs; it is not given again. */
  take(): number[] {
    return fills.flatMap((fill) => {
      const { rows, ms } = this.#done[fill];
      this.#done[fill] = { rows: 0, ms: 0 };
      return [rows, Math.round(1000 * ms)];
    });
  }
}
