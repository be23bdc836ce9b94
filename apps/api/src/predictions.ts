// Predictions that were accepted: reading them, waiting for them, listing them, canceling them.
import { type Address, MillraceError, parsePredictionId, type Pending, type Prediction, type ResultRecord } from '@millrace/protocol';
import { type Found, listPredictions, type ListQuery, lookup, type Page, Payloads, type Redis, rethrowUnavailable, Settler } from '@millrace/queue';
import type { ApiMetrics } from './metrics.ts';
import type { Waiters } from './waiters.ts';

export interface PredictionsOptions {
  readonly redis: Redis;
  readonly pools: () => Iterable<string>;
  readonly waiters: Waiters;
  readonly metrics: ApiMetrics;
  readonly retentionSeconds: number;
}

export class Predictions {
  readonly #options: PredictionsOptions;

  constructor(options: PredictionsOptions) {
    this.#options = options;
  }

  /** Reads a prediction, waiting for its result where it has none. Throws `not-found`, `result-expired` or `queue-unavailable`. */
  async find(id: string, tenant: string, waitMs = 0): Promise<{ known: ResultRecord | Pending }> {
    const { address, found } = await this.#lookup(id, tenant);
    if (found.kind === 'settled') return { known: found.record };
    if (waitMs === 0) return { known: found.pending };
    await this.#options.waiters.watch(address, id, tenant, waitMs).catch(rethrowUnavailable);
    return this.find(id, tenant);
  }

  /** Its state now, or the one known before where Redis cannot tell: it was accepted, so this must not fail. */
  async now(id: string, tenant: string, before: Pending, waitMs = 0): Promise<ResultRecord | Pending> {
    try {
      return (await this.find(id, tenant, waitMs)).known;
    } catch {
      return before;
    }
  }

  /** One page of them, newest first. Throws `queue-unavailable`. */
  async list(query: Omit<ListQuery, 'pools'>): Promise<Page> {
    const { redis, pools } = this.#options;
    return listPredictions(redis, { ...query, pools: [...pools()] }).catch(rethrowUnavailable);
  }

  /** Settles it as canceled. Throws `not-cancelable` where another outcome came first. */
  async cancel(id: string, tenant: string): Promise<ResultRecord> {
    const { address, found } = await this.#lookup(id, tenant);
    if (found.kind === 'pending') {
      const { redis, retentionSeconds, metrics } = this.#options;
      const { pending: { state: _, ...known }, rows, replyTo, notify } = found;
      const record: ResultRecord = { outcome: 'canceled', attempts: 0, ...known, rows, settledAt: Date.now() };
      const fresh = await new Settler(redis, address.pool, retentionSeconds)
        .settle({ bundleId: address.bundleId, tenant, replyTo }, [{ index: address.index, record, notify }], { announce: true })
        .catch(rethrowUnavailable);
      if (fresh.size > 0) {
        new Payloads(redis, address.pool).remove(address.bundleId, address.index);
        metrics.predictions.inc({ model: known.model, version: String(known.version), outcome: 'canceled' });
        return record;
      }
    }
    const { found: settled } = await this.#lookup(id, tenant);
    if (settled.kind === 'settled' && settled.record.outcome === 'canceled') return settled.record;
    throw new MillraceError('not-cancelable', `The prediction has ${settled.kind === 'settled' ? settled.record.outcome : 'ended'} already`);
  }

  async #lookup(id: string, tenant: string): Promise<{ address: Address; found: Found }> {
    const address = parsePredictionId(id);
    const found = address && await lookup(this.#options.redis, address, tenant).catch(rethrowUnavailable);
    if (address && found) return { address, found };
    const { retentionSeconds } = this.#options;
    if (address && address.bundledAt < Date.now() - retentionSeconds * 1000) {
      throw new MillraceError('result-expired', `Results are kept for ${retentionSeconds} seconds`);
    }
    throw new MillraceError('not-found', 'There is no such prediction');
  }
}

/** Another one whenever the prediction has changed. */
export function revisionOf({ status, attempts }: Pick<Prediction, 'status' | 'attempts'>): string {
  return `${status}-${attempts}`;
}
