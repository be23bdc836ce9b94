// Standard Webhooks 1.0: how a delivery is signed, so that whoever gets it can tell that it is ours and new.
// https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
import { createHmac, createSecretKey, type KeyObject, randomBytes } from 'node:crypto';

const prefix = 'whsec_';
const secretBytes = 32;
/** An HMAC with a prepared key takes 7 µs, with the key's bytes 35 µs. Past so many secrets all are prepared anew. */
const maxKeys = 10_000;
const keys = new Map<string, KeyObject>();

/** Makes a secret: `whsec_` and the base64 of 32 random bytes. */
export function newSecret(): string {
  return prefix + randomBytes(secretBytes).toString('base64');
}

/**
 * The header `webhook-signature` of a delivery: `v1,<base64 HMAC-SHA256>` for each secret, separated by spaces, so that
 * while a secret is rotated both the old and the new one verify. The time is that of the attempt.
 */
export function signatureOf(id: string, timestampSeconds: number, body: string, secrets: readonly string[]): string {
  const signed = `${id}.${timestampSeconds}.${body}`;
  return secrets.map((secret) => `v1,${createHmac('sha256', keyOf(secret)).update(signed).digest('base64')}`).join(' ');
}

function keyOf(secret: string): KeyObject {
  const known = keys.get(secret);
  if (known) return known;
  if (keys.size >= maxKeys) keys.clear();
  const key = createSecretKey(Buffer.from(secret.startsWith(prefix) ? secret.slice(prefix.length) : secret, 'base64'));
  keys.set(secret, key);
  return key;
}
