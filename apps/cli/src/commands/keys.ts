// `millrace keys`: makes, lists and revokes API keys, in Redis itself.
import type { ApiKey, KeyLimits, Scope } from '@millrace/protocol';
import { printableUrl } from '@millrace/process';
import { connect, KeyStore, type RedisSettings, untilReady } from '@millrace/queue';
import { redisUrlIn } from '../embedded/redis.ts';

/** Where the keys are. */
export interface KeysPlace extends Omit<RedisSettings, 'redisUrl'> {
  /** Goes before the private Redis of a running `millrace up`. */
  readonly redis?: string | undefined;
  /** Data folder of `millrace up`. */
  readonly data: string;
}

export interface NewKeyOptions extends KeysPlace {
  readonly tenant: string;
  readonly name?: string;
  readonly scope: readonly Scope[];
  readonly expires?: number;
  readonly rate?: number;
  readonly inFlight?: number;
  readonly bodyBytes?: number;
  readonly json?: boolean;
}

const redisPatienceMs = 5000;

/** Prints the key to standard output, this once, and what it may do to standard error. */
export async function createKey({ tenant, name, scope, expires, rate, inFlight, bodyBytes, json, ...place }: NewKeyOptions): Promise<void> {
  const now = Date.now();
  const limits: KeyLimits = { predictionsPerMinute: rate, requestsInFlight: inFlight, bodyBytes };
  const expiresAt = expires === undefined ? undefined : now + expires;
  const { key, text } = await withStore(place, (store) => store.create({ tenant, name, scopes: scope, expiresAt, limits }, now));
  process.stdout.write(json ? `${JSON.stringify({ key: text, ...presentKey(key) }, null, 2)}\n` : `${text}\n`);
  process.stderr.write(`The key ${key.id} of ${tenant} works within seconds: ${key.scopes.join(', ')}. It is shown only here.\n`);
}

export async function listKeys({ json, ...place }: KeysPlace & { readonly json?: boolean }): Promise<void> {
  const keys = (await withStore(place, (store) => store.list())).map(presentKey);
  if (json) {
    process.stdout.write(`${JSON.stringify(keys, null, 2)}\n`);
    return;
  }
  for (const { id, tenant, state, name, scopes, expires_at: expiresAt } of keys) {
    process.stdout.write([id, tenant, state, expiresAt ?? 'for good', scopes.join(','), name ?? ''].join('  ').trimEnd().concat('\n'));
  }
  if (keys.length === 0) process.stderr.write('There is no key: everybody who reaches the API may use it.\n');
}

export async function revokeKey(id: string, place: KeysPlace): Promise<void> {
  const key = await withStore(place, (store) => store.revoke(id, Date.now()));
  if (!key) throw new Error(`There is no key ${id}: \`millrace keys list\` shows them`);
  process.stderr.write(`The key ${id} of ${key.tenant} is revoked; the API refuses it within 5 seconds.\n`);
}

/** A key as others read it, with the names and times of the API. */
function presentKey({ id, tenant, name, scopes, createdAt, expiresAt, revokedAt, limits }: ApiKey) {
  const time = (at: number | undefined) => (at === undefined ? null : new Date(at).toISOString());
  const state = revokedAt !== undefined ? 'revoked' : expiresAt !== undefined && expiresAt <= Date.now() ? 'expired' : 'active';
  return {
    id, tenant, name: name ?? null, state, scopes, created_at: time(createdAt), expires_at: time(expiresAt), revoked_at: time(revokedAt),
    limits: { predictions_per_minute: limits.predictionsPerMinute ?? null, requests_in_flight: limits.requestsInFlight ?? null, body_bytes: limits.bodyBytes ?? null },
  };
}

/** Acts on the keys of a Redis, and leaves it. Throws, in words for the user, where it cannot be reached. */
export async function withStore<Result>({ redis: given, data, ...tls }: KeysPlace, act: (store: KeyStore) => Promise<Result>): Promise<Result> {
  const url = given || redisUrlIn(data);
  if (url === undefined) throw new Error(`No Redis to keep keys in: \`millrace up\` is not running on ${data}, and neither --redis nor REDIS_URL is set`);
  let lastError: Error | undefined;
  const redis = connect({ ...tls, redisUrl: url }, 'producer', (error) => { lastError = error; });
  try {
    await untilReady(redis, redisPatienceMs);
    return await act(new KeyStore(redis));
  } catch (error) {
    if (redis.status === 'ready') throw error;
    const stale = url !== given ? `. \`millrace up\` on ${data} seems to have been killed: start it again` : '';
    throw new Error(`Redis at ${printableUrl(url)} cannot be reached${lastError ? `: ${lastError.message}` : ''}${stale}`, { cause: error });
  } finally {
    redis.disconnect();
  }
}
