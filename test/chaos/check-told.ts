// The checker of events: whether everybody was told of every end, and what they were told more than once.
import { setTimeout as delay } from 'node:timers/promises';
import { eventOf, isOutcome } from '@millrace/protocol';
import { type Audience, paths, type Told } from './audience.ts';
import { listed } from './check.ts';
import type { Client } from './client.ts';

export interface ToldVerdict {
  /** Webhooks that must have arrived: two for each prediction. */
  readonly expected: number;
  /** Of these, those that did not. */
  readonly untold: string[];
  /** Arrived more than once, with the same `webhook-id`. */
  readonly toldAgain: number;
  /** What must not be. */
  readonly wrong: string[];
  /** The longest time from the end of a prediction to when somebody first heard of it. */
  readonly longestMs: number;
}

/** A dead dispatcher's leases end after 30 s; a host that did not answer is left alone for 30 s, and longer if it still does not. */
const patienceSeconds = 180;
const lookMs = 500;

/** Waits until all are told of the end of every accepted prediction and the records say so, and judges. */
export async function checkTold(client: Client, audience: Audience): Promise<ToldVerdict> {
  const deadline = performance.now() + 1000 * patienceSeconds;
  const ends = [...client.accepted.values()].flatMap(({ id, seen }) => {
    const end = seen.at(-1);
    return end && isOutcome(end.status) ? [{ predictionId: id, event: eventOf[end.status], endedAt: Date.parse(String(end.completed_at)) }] : [];
  });
  const expected = new Map(ends.flatMap(({ endedAt, ...end }) => Object.values(paths).map((path) => [keyOf({ path, ...end }), endedAt])));
  let firsts = firstsIn(audience.book());
  const untold = () => [...expected.keys()].filter((key) => !firsts.has(key));
  while (untold().length > 0 && performance.now() < deadline) {
    await delay(lookMs);
    firsts = firstsIn(audience.book());
  }
  let pending = await audience.deliveries('pending');
  for (; pending > 0 && performance.now() < deadline; pending = await audience.deliveries('pending')) await delay(lookMs);

  const book = audience.book();
  const dead = await audience.deliveries('dead');
  const delivered = await audience.deliveries('delivered');
  const kinds = new Set(book.map(keyOf)).size;
  return {
    expected: expected.size,
    untold: untold(),
    toldAgain: book.length - kinds,
    wrong: [
      ...listed('with a wrong signature', book.filter(({ verified }) => !verified).map(keyOf)),
      ...listed('with several ids', severalIn(book, keyOf, ({ id }) => id)),
      ...listed('told of several ends', severalIn(book, ({ predictionId }) => predictionId, ({ event }) => event)),
      ...(pending + dead > 0 || delivered !== kinds ? [`deliveries: ${pending} pending, ${dead} dead, ${delivered} delivered in place of ${kinds}`] : []),
    ],
    longestMs: [...expected].reduce((longest, [key, endedAt]) => Math.max(longest, (firsts.get(key) ?? Infinity) - endedAt), 0),
  };
}

function keyOf({ path, predictionId, event }: Pick<Told, 'path' | 'predictionId' | 'event'>): string {
  return `${predictionId} ${event} at ${path}`;
}

/** When each was first told. */
function firstsIn(book: readonly Told[]): Map<string, number> {
  const firsts = new Map<string, number>();
  for (const told of book) {
    const key = keyOf(told);
    if (told.verified && !firsts.has(key)) firsts.set(key, told.at);
  }
  return firsts;
}

/** The groups that have more than one value. */
function severalIn(book: readonly Told[], groupOf: (told: Told) => string, valueOf: (told: Told) => string): string[] {
  const values = new Map<string, Set<string>>();
  for (const told of book) values.set(groupOf(told), (values.get(groupOf(told)) ?? new Set()).add(valueOf(told)));
  return [...values].filter(([, its]) => its.size > 1).map(([group]) => group);
}
