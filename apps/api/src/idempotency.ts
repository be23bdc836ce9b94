// The header Idempotency-Key (draft-ietf-httpapi-idempotency-key-header): what it stands for, and whether the request is the same.
import { createHash } from 'node:crypto';
import { MillraceError } from '@millrace/protocol';
import type { Reservation } from '@millrace/queue';

const longestKey = 255;

/** The key and the request's fingerprint; undefined without the header. Throws `malformed-request`. */
export function idempotencyOf(header: string | string[] | undefined, body: unknown): Reservation | undefined {
  if (header === undefined) return undefined;
  // A structured-field string has quotes around it (RFC 9651); many clients leave them out.
  const key = [header].flat().join().trim().replace(/^"(.*)"$/, '$1');
  if (key === '' || key.length > longestKey) {
    throw new MillraceError('malformed-request', `The Idempotency-Key must have 1 to ${longestKey} characters, this one has ${key.length}`);
  }
  return { key, fingerprint: createHash('sha256').update(canonical(body)).digest('base64url') };
}

/** For one item of a batch: the key is the batch's, the place tells its items apart. */
export function idempotencyOfItem(reservation: Reservation | undefined, index: number): Reservation | undefined {
  // No header holds a line break, so no single submission has this key.
  return reservation && { ...reservation, key: `${reservation.key}\n${index}` };
}

/** For a backfill: what has the same key elsewhere is nothing of its kind. */
export function idempotencyOfBackfill(reservation: Reservation | undefined): Reservation | undefined {
  return reservation && { ...reservation, key: `${reservation.key}\nbackfill` };
}

/** The same text for the same content, whatever the order of members and the white space were. */
function canonical(body: unknown): string {
  return JSON.stringify(body, (_key, value: unknown) => {
    if (typeof value === 'bigint') return `${value}n`;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
    return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
  }) ?? '';
}
