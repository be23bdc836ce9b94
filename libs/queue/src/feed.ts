// The feed of a tenant: how its predictions and backfills end, while somebody follows it. A stream per pool and one of backfills,
// which settling writes to where it is there (settle.lua, backfill-write.lua); followers make it, read from it, and it goes when
// they have gone.
import { type BackfillHead, type Head, predictionId } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

/** Bundles' entries, about. Who reads later than this has missed something. */
export const feedLength = 10_000;
/** Nobody reads for so long: then it goes. Longer than a Redis is away that is started again. */
const feedSeconds = 300;

/** Of one tenant, in one pool. */
export interface Feed {
  readonly pool: string;
  readonly tenant: string;
}

/** Where reading goes on: after an entry of the stream (a bundle, `<ms>-<n>`), or after so many events of one (`<ms>-<n>-<events>`). */
export type Cursor = string;

/** Before everything that a feed has, and ever had. */
export const feedStart: Cursor = '0-0';
export const cursorPattern = '[0-9]{1,15}-[0-9]{1,15}(-[0-9]{1,3})?';

export type FeedEvent = ({ readonly kind: 'prediction'; readonly predictionId: string; readonly head: Head } | { readonly kind: 'backfill'; readonly head: BackfillHead }) & {
  /** Reading goes on after this event. */
  readonly cursor: Cursor;
};

export interface FeedPage {
  readonly events: readonly FeedEvent[];
  /** Reading goes on after this page: the cursor that was asked for where there was nothing new. */
  readonly last: Cursor;
  /** True where there is more already. */
  readonly more: boolean;
  /** True where something between cursor and page may have been missed: the feed has been trimmed, or it had gone. */
  readonly gap: boolean;
}

/** From now on the feed gets what is settled. Returns where it ends. */
export async function followFeed(redis: Redis, { pool, tenant }: Feed): Promise<Cursor> {
  const [, [newest]] = await redis.millraceFeed(keysOf(pool).feed(tenant), feedSeconds, '', '', 1);
  return newest?.[0] ?? feedStart;
}

/** What came after a cursor, of so many bundles at most. Follows the feed too. */
export async function readFeed(redis: Redis, { pool, tenant }: Feed, cursor: Cursor, bundles: number): Promise<FeedPage> {
  const [ms, place, told = ''] = cursor.split('-');
  const [there, entries] = await redis.millraceFeed(keysOf(pool).feed(tenant), feedSeconds, `${ms}-${place}`, told === '' ? '(' : '', bundles);
  const events = entries.flatMap(([entry, fields], index) => eventsOf(entry, fields).slice(there === 1 && index === 0 ? Number(told) : 0));
  return { events, last: entries.at(-1)?.[0] ?? cursor, more: entries.length === bundles, gap: there === 0 };
}

/** The last one's cursor is the entry itself, so that a feed's cursors are alike for all who have read the same. */
function eventsOf(entry: string, [kind, about = '', ...fields]: readonly string[]): FeedEvent[] {
  if (kind === 'backfill') return [{ kind, head: JSON.parse(about) as BackfillHead, cursor: entry }];
  if (kind !== 'bundle') return [];
  const events: FeedEvent[] = [];
  for (let at = 0; at < fields.length; at += 2) {
    const cursor = at + 2 === fields.length ? entry : `${entry}-${at / 2 + 1}`;
    events.push({ kind: 'prediction', predictionId: predictionId(about, Number(fields[at])), head: JSON.parse(fields[at + 1] as string) as Head, cursor });
  }
  return events;
}
