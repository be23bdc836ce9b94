// Figures from what was measured.

/** The value below which so large a share of the values lies, between two of them in proportion; NaN of none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const [low, high] = [sorted[Math.floor(place)] ?? NaN, sorted[Math.ceil(place)] ?? NaN];
  return low + (high - low) * (place % 1);
}

export function round(value: number): number {
  return Number(value.toPrecision(5));
}
