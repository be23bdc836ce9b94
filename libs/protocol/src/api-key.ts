// API keys: how their text is made and read, and what a key may do.
// The text is `mrk_<id>_<secret><checksum>`. The checksum tells a key that was mistyped, cut off or made up from a real one
// without asking Redis, and lets scanners find keys that leaked.
import { createHash, randomInt } from 'node:crypto';
import { crc32 } from 'node:zlib';

export const scopes = ['predict:write', 'predict:read', 'models:read', 'backfills:write', 'webhooks:admin', 'metrics:read'] as const;
/** What a route needs and a key may have. */
export type Scope = (typeof scopes)[number];

export const tenantPattern = '^[a-z0-9][a-z0-9-]{0,62}$';
/** The tenant of everybody while there is no key. */
export const defaultTenant = 'default';

export interface KeyLimits {
  /** Counted over all API nodes. */
  readonly predictionsPerMinute?: number | undefined;
  /** Counted by each API node for itself. */
  readonly requestsInFlight?: number | undefined;
  readonly bodyBytes?: number | undefined;
}

/** A key without its text, which nobody keeps. Times are milliseconds since the epoch. */
export interface ApiKey {
  readonly id: string;
  readonly tenant: string;
  readonly name?: string | undefined;
  readonly scopes: readonly Scope[];
  readonly createdAt: number;
  readonly expiresAt?: number | undefined;
  readonly revokedAt?: number | undefined;
  readonly limits: KeyLimits;
}

const idLength = 12;
/** 30 digits of base 62 are 178 bits: nobody guesses them, so that a plain digest of the key can be kept. */
const secretLength = 30;
const checksumLength = 6;
const digits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const keyText = new RegExp(`^(mrk_([0-9A-Za-z]{${idLength}})_[0-9A-Za-z]{${secretLength}})([0-9A-Za-z]{${checksumLength}})$`);

/** Makes the text of a new key. */
export function newKeyText(): string {
  const body = `mrk_${randomDigits(idLength)}_${randomDigits(secretLength)}`;
  return body + checksumOf(body);
}

/** The id in a key's text; undefined where the text is no key. */
export function readKeyId(text: string): string | undefined {
  const [, body = '', id, checksum] = keyText.exec(text) ?? [];
  return checksum === checksumOf(body) ? id : undefined;
}

/** SHA-256 of a key's text: what is kept of it. */
export function keyDigest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function randomDigits(length: number): string {
  return Array.from({ length }, () => digits[randomInt(digits.length)]).join('');
}

function checksumOf(body: string): string {
  let rest = crc32(body);
  let text = '';
  for (let place = 0; place < checksumLength; place++) {
    text = `${digits[rest % digits.length]}${text}`;
    rest = Math.floor(rest / digits.length);
  }
  return text;
}
