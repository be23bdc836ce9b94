// What Redis knows of a prediction: its result, or the state of the bundle that carries it.
import { type Address, type Bundle, lanes, type Notify, type Pending, type ResultRecord } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { type Retried, retryField } from './marks.ts';
import { keysOf } from './names.ts';

export type Found =
  | { readonly kind: 'settled'; readonly record: ResultRecord }
  | {
    readonly kind: 'pending'; readonly pending: Pending; readonly rows: number;
    readonly replyTo?: string | undefined; readonly notify?: Notify | undefined;
  };

/** Reads one prediction of the tenant; undefined where there is none: never was, expired, or another tenant's. */
export async function lookup(redis: Redis, address: Address, tenant: string): Promise<Found | undefined> {
  const keys = keysOf(address.pool);
  // Jobs before results: a bundle is removed only after its last result is written, so this order cannot miss both.
  const pipeline = redis.pipeline();
  for (const lane of lanes) pipeline.hget(keys.job(lane, address.bundleId), 'data').exists(keys.lock(lane, address.bundleId));
  pipeline.hmget(keys.results(address.bundleId), 'tenant', String(address.index), retryField(address.index));
  const replies = (await pipeline.exec() ?? []).map(([error, value]) => {
    if (error) throw error;
    return value;
  });

  const [owner, record, retried] = replies.at(-1) as (string | null)[] as [string | null, string | null, string | null];
  if (record !== null) return owner === tenant ? { kind: 'settled', record: JSON.parse(record) as ResultRecord } : undefined;
  if (retried !== null) return owner === tenant ? pendingAgain(redis, address, JSON.parse(retried) as Retried) : undefined;
  for (const place of lanes.keys()) {
    const data = replies[2 * place] as string | null;
    if (data === null) continue;
    const bundle = JSON.parse(data) as Bundle;
    const pending = pendingIn(bundle, address.index, tenant, replies[2 * place + 1] === 1);
    const { rows = 0, notify } = bundle.predictions[address.index] ?? {};
    return pending && { kind: 'pending', pending, rows, replyTo: bundle.replyTo, notify };
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
  const found = await Promise.all([...Map.groupBy(wanted, ({ address }) => address.bundleId)].map(async ([bundleId, ofBundle]) => {
    const { pool } = (ofBundle[0] as Wanted).address;
    const [owner, ...records] = await redis.hmget(keysOf(pool).results(bundleId), 'tenant', ...ofBundle.map(({ address }) => String(address.index)));
    return ofBundle.flatMap(({ id, tenant }, place) => {
      const record = records[place];
      return typeof record === 'string' && owner === tenant ? [[id, JSON.parse(record) as ResultRecord] as const] : [];
    });
  }));
  return found.flat();
}

/** The state of a prediction that its bundle carries; undefined where it carries none there, or another tenant's. */
export function pendingIn(bundle: Bundle, index: number, tenant: string, claimed: boolean): Pending | undefined {
  const prediction = bundle.predictions[index];
  if (!prediction || bundle.tenant !== tenant) return undefined;
  const { acceptedAt, echo } = prediction;
  return {
    state: claimed ? 'running' : 'queued',
    model: bundle.model.name,
    version: bundle.model.version,
    acceptedAt,
    ...(echo && { echo }),
  };
}

async function pendingAgain(redis: Redis, { pool }: Address, { jobId, lane, rows, replyTo, notify, pending }: Retried): Promise<Found> {
  const claimed = await redis.exists(keysOf(pool).lock(lane, jobId)) === 1;
  return { kind: 'pending', pending: { ...pending, state: claimed ? 'running' : 'queued' }, rows, replyTo, notify };
}
