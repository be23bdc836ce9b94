// When a process that ended is started again. Pure.

const firstMs = 1000;
const longestMs = 30_000;
/** One that was ready for so long has not been in a crash loop. */
const stableMs = 10_000;

/** How often it has ended in a row, this time included. `readyMs`: how long it had been ready, 0 where it never was. */
export function endsInARow(before: number, readyMs: number): number {
  return readyMs >= stableMs ? 1 : before + 1;
}

/** Milliseconds to wait: doubled with each end in a row, less up to a half, so that processes which ended together do not all start together. `random`: from 0 up to 1. */
export function restartDelayMs(ends: number, random: number): number {
  return Math.round(Math.min(longestMs, firstMs * 2 ** (ends - 1)) * (1 - random / 2));
}
