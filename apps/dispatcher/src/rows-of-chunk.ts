// How many rows the next chunk should have: what keeps one inference thread busy for some seconds. So a model that takes its time
// is soon paused, shows how far it is, loses little with a worker, and has chunks for a whole fleet.

const chunkSeconds = 4;
/** Of a model that never ran: after the first of these chunks it is known what a row takes. */
const firstRows = 256;
/** Where it is not, none of many rows has succeeded: what is refused is soon done, so chunks may grow. */
const refusedPerRow = 16;
/** Chunks grow with what is behind them: 50 million rows of a slow model are tens of thousands of chunks, not millions. */
const rowsBehindPerRow = 10_000;

/** `secondsPerRow`: of an inference thread; undefined where the model never ran. */
export function rowsOfChunk(rowsBefore: number, secondsPerRow: number | undefined): number {
  if (secondsPerRow === undefined) return Math.max(firstRows, Math.ceil(rowsBefore / refusedPerRow));
  return Math.ceil(Math.max(chunkSeconds / secondsPerRow, rowsBefore / rowsBehindPerRow));
}
