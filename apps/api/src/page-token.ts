// Opaque page tokens: where a list goes on, bound to the filters that it was made with.
import { createHash } from 'node:crypto';
import { MillraceError } from '@millrace/protocol';

export type Filters = readonly (string | undefined)[];

const proofLength = 22;

/** `position`: the last entry that was looked at. */
export function writePageToken(position: string, filters: Filters): string {
  const proof = createHash('sha256').update(JSON.stringify([position, ...filters.map((filter) => filter ?? null)])).digest('base64url').slice(0, proofLength);
  return Buffer.from(`${position}-${proof}`).toString('base64url');
}

/**
 * The position in a token, matched by its form: anybody could make a proof. `pointer` says where the token stood. Throws
 * `malformed-request` where it is no token of ours, or one that was made with other filters.
 */
export function readPageToken(token: string, filters: Filters, form: RegExp, pointer = '#/querystring/page_token'): RegExpExecArray {
  const position = form.exec(Buffer.from(token, 'base64url').toString('latin1').slice(0, -proofLength - 1));
  if (!position || token !== writePageToken(position[0], filters)) {
    throw new MillraceError('malformed-request', 'The page token is not one of this list: filters must stay the same from page to page', {
      faults: [{ pointer, detail: 'must be the next_page_token of the same list' }],
    });
  }
  return position;
}
