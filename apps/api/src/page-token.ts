// Opaque page tokens: where a list goes on, bound to the filters that it was made with.
import { createHash } from 'node:crypto';
import { MillraceError } from '@millrace/protocol';
import type { Position } from '@millrace/queue';

export type Filters = readonly (string | undefined)[];

const content = /^([0-9a-f]{32})-(\d{1,2})-/;

export function writePageToken({ bundle, index }: Position, filters: Filters): string {
  const proof = createHash('sha256').update(JSON.stringify([bundle, index, ...filters.map((filter) => filter ?? null)])).digest('base64url').slice(0, 22);
  return Buffer.from(`${bundle}-${index}-${proof}`).toString('base64url');
}

/** Throws `malformed-request` where it is no token of ours, or one that was made with other filters. */
export function readPageToken(token: string, filters: Filters): Position {
  const [, bundle = '', index = ''] = content.exec(Buffer.from(token, 'base64url').toString('latin1')) ?? [];
  const position = { bundle, index: Number(index) };
  if (bundle === '' || token !== writePageToken(position, filters)) {
    throw new MillraceError('malformed-request', 'The page token is not one of this list: filters must stay the same from page to page', {
      faults: [{ pointer: '#/querystring/page_token', detail: 'must be the next_page_token of the same list' }],
    });
  }
  return position;
}
