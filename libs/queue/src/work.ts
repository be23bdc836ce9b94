// What running rows has cost, until it is written down with the results of those rows (work.lua): so a replica that dies takes
// the rows along with the time. Rows of micro-batches that were at least half full are counted by themselves. At low load
// micro-batches are small and a row in them looks dear; what a backlog will cost is what rows cost in full ones.

const fills = ['full', 'partial'] as const;
export type Fill = (typeof fills)[number];

export class Work {
  readonly #done: Record<Fill, { rows: number; ms: number }> = { full: { rows: 0, ms: 0 }, partial: { rows: 0, ms: 0 } };

  /** `ms`: of an inference thread. `batchRows` of the micro-batch that the rows ran in, out of `maxRows`. */
  ran(rows: number, ms: number, { batchRows, maxRows }: { readonly batchRows: number; readonly maxRows: number }): void {
    const done = this.#done[2 * batchRows >= maxRows ? 'full' : 'partial'];
    done.rows += rows;
    done.ms += ms;
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
