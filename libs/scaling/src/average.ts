// An average that noise moves slowly and a jump moves at once.

export interface Average {
  readonly mean: number;
  /** Of single values from the mean, on average. */
  readonly deviation: number;
  /** Of the time before the first value, and of the newest one; milliseconds. */
  readonly since: number;
  readonly at: number;
}

/** Time in which an old value loses weight to 1/e. */
const memorySeconds = 60;
/** A value that is further above the mean than so many deviations is not noise. */
const jumpDeviations = 7;

/** The average with one more value; it only jumps upwards, and only where it `mayJump`. While the clock has stepped back it stands still. */
export function averageOf(before: Average, { value, at: takenAt, mayJump }: { value: number; at: number; mayJump: boolean }): Average {
  const rise = value - before.mean;
  const at = Math.max(before.at, takenAt);
  // The jump counts as deviation, so that the noise of the new level, which nobody knows yet, is no further jump.
  if (mayJump && rise > jumpDeviations * before.deviation) return { ...before, mean: value, deviation: rise / (2 * jumpDeviations), at };
  const elapsed = at - before.at;
  // In the beginning all values have the same weight.
  const weight = elapsed === 0 ? 0 : Math.max(1 - Math.exp(-elapsed / (1000 * memorySeconds)), elapsed / (at - before.since));
  return { ...before, mean: before.mean + weight * rise, deviation: before.deviation + weight * (Math.abs(rise) - before.deviation), at };
}
