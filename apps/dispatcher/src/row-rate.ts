// How fast rows come, over the last seconds.
const windowMs = 10_000;

interface Reading {
  readonly at: number;
  readonly rows: number;
}

export class RowRate {
  #readings: Reading[];

  /** `at`: milliseconds of a clock that never goes back; `rows`: what is done by then. */
  constructor(at: number, rows: number) {
    this.#readings = [{ at, rows }];
  }

  /** Rows per second; undefined where nothing has come yet. */
  note(at: number, rows: number): number | undefined {
    this.#readings.push({ at, rows });
    const recent = this.#readings.findLastIndex((reading) => reading.at <= at - windowMs);
    if (recent > 0) this.#readings = this.#readings.slice(recent);
    const [first] = this.#readings as [Reading];
    const seconds = (at - first.at) / 1000;
    return seconds > 0 && rows > first.rows ? Math.round(10 * (rows - first.rows) / seconds) / 10 : undefined;
  }
}
