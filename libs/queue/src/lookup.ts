// What Redis knows of a prediction: its result, or the state of the bundle that carries it.
import { type Address, type Bundle, lanes, type Lane, type Pending, type ResultRecord } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

export type Found =
  | { readonly kind: 'settled'; readonly record: ResultRecord }
  | { readonly kind: 'pending'; readonly pending: Pending; readonly rows: number; readonly lane: Lane; readonly replyTo?: string | undefined };

/** Reads one prediction of the tenant; undefined where there is none: never was, expired, or another tenant's. */
export async function lookup(redis: Redis, address: Address, tenant: string): Promise<Found | undefined> {
  const keys = keysOf(address.pool);
  // Jobs before results: a bundle is removed only after its last result is written, so this order cannot miss both.
  const pipeline = redis.pipeline();
  for (const lane of lanes) pipeline.hget(keys.job(lane, address.bundleId), 'data').exists(keys.lock(lane, address.bundleId));
  pipeline.hmget(keys.results(address.bundleId), 'tenant', String(address.index));
  const replies = (await pipeline.exec() ?? []).map(([error, value]) => {
    if (error) throw error;
    return value;
  });

  const [owner, record] = replies.at(-1) as [string | null, string | null];
  if (record !== null) return owner === tenant ? { kind: 'settled', record: JSON.parse(record) as ResultRecord } : undefined;
  for (const [place, lane] of lanes.entries()) {
    const data = replies[2 * place] as string | null;
    if (data !== null) return pendingIn(JSON.parse(data) as Bundle, lane, address.index, tenant, replies[2 * place + 1] === 1);
  }
  return undefined;
}

export interface Wanted {
  readonly id: string;
  readonly address: Address;
  readonly tenant: string;
}

/** The results of those that have one, in one round trip; predictions of one bundle cost little more than one. */
export async function lookupSettled(redis: Redis, wanted: readonly Wanted[]): Promise<(readonly [id: string, record: ResultRecord])[]> {
  const bundles = [...Map.groupBy(wanted, ({ address }) => address.bundleId)];
  const pipeline = redis.pipeline();
  for (const [bundleId, ofBundle] of bundles) {
    const { pool } = (ofBundle[0] as Wanted).address;
    pipeline.hmget(keysOf(pool).results(bundleId), 'tenant', ...ofBundle.map(({ address }) => String(address.index)));
  }
  const replies = await pipeline.exec() ?? [];
  return bundles.flatMap(([, ofBundle], place) => {
    const [error, values] = replies[place] as [Error | null, (string | null)[]];
    if (error) throw error;
    const [owner, ...records] = values;
    return ofBundle.flatMap(({ id, tenant }, index) => {
      const record = records[index];
      return typeof record === 'string' && owner === tenant ? [[id, JSON.parse(record) as ResultRecord] as const] : [];
    });
  });
}

function pendingIn(bundle: Bundle, lane: Lane, index: number, tenant: string, claimed: boolean): Found | undefined {
  const prediction = bundle.predictions[index];
  if (!prediction || bundle.tenant !== tenant) return undefined;
  const { acceptedAt, echo, rows } = prediction;
  const pending: Pending = {
    state: claimed ? 'running' : 'queued',
    model: bundle.model.name,
    version: bundle.model.version,
    acceptedAt,
    ...(echo && { echo }),
  };
  return { kind: 'pending', pending, rows, lane, replyTo: bundle.replyTo };
}
