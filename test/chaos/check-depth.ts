// The checker of the depth: whether it is exactly 0 when everything has ended.
import type { Redis } from 'ioredis';
import { until } from '../integration/until.ts';

export interface DepthVerdict {
  /** Rows that are still counted, by lane, model version and tenant: `online/iris@1/default`. */
  readonly left: Readonly<Record<string, number>>;
  /** All of them together. */
  readonly drift: number;
}

/** What was booked and never came to the queue is taken back 15 s after it was first found missing. */
const patienceSeconds = 30;

/** Waits until nothing is counted any more; what is counted then has drifted. Negative counts have too. */
export async function checkDepth(redis: Redis): Promise<DepthVerdict> {
  const [depth, bookings] = ['millrace:{default}:depth', 'millrace:{default}:bookings'];
  await until(async () => await redis.exists(depth, bookings) === 0, 'depth 0', patienceSeconds).catch(() => { /* then it is told below */ });
  const left = Object.fromEntries(Object.entries(await redis.hgetall(depth)).map(([path, rows]) => [path, Number(rows)]));
  const booked = (await redis.hvals(bookings)).reduce((sum, booking) => sum + Number.parseInt(booking, 10), 0);
  const counted = Object.values(left).reduce((sum, rows) => sum + Math.abs(rows), 0);
  return { left, drift: Math.max(counted, booked) };
}
