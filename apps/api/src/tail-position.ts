// Where a tail stands, as text that its client keeps: a cursor for each pool.
import { MillraceError, poolPattern } from '@millrace/protocol';
import { type Cursor, cursorPattern } from '@millrace/queue';

export type Position = ReadonlyMap<string, Cursor>;

const place = `${poolPattern.slice(1, -1)}:${cursorPattern}`;
const content = new RegExp(`^${place}(,${place})*$`);

export function writePosition(position: Position): string {
  let text = '';
  for (const [pool, cursor] of position) text += `${text && ','}${pool}:${cursor}`;
  return text;
}

/** Throws `malformed-request` where it is no position of ours. */
export function readPosition(text: string): Position {
  if (!content.test(text)) {
    throw new MillraceError('malformed-request', 'The Last-Event-ID is not one of this stream', {
      faults: [{ pointer: '#/headers/last-event-id', detail: 'must be the id of an event of the same stream' }],
    });
  }
  return new Map(text.split(',').map((one) => one.split(':') as [string, Cursor]));
}
