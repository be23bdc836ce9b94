// Tells those who asked for it that predictions have begun to run.
import type { BundledPrediction } from '@millrace/protocol';
import { type Claim, type Redis, StartListeners, tellStarted } from '@millrace/queue';

export class Starts {
  readonly #redis: Redis;
  readonly #pool: string;
  readonly #listeners: StartListeners;
  readonly #onError: (error: unknown) => void;

  constructor(redis: Redis, pool: string, onError: (error: unknown) => void) {
    this.#redis = redis;
    this.#pool = pool;
    this.#listeners = new StartListeners(redis, pool);
    this.#onError = onError;
  }

  async start(): Promise<void> {
    await this.#listeners.start();
  }

  stop(): void {
    this.#listeners.stop();
  }

  wanted({ bundle: { tenant } }: Claim, { notify }: BundledPrediction): boolean {
    return this.#listeners.has(tenant) || (notify?.webhook?.events?.includes('prediction.started') ?? false);
  }

  /** No run waits for it. `startedAt`: milliseconds since the epoch. */
  tell({ bundle: { tenant, model }, bundleId, predictions, attempt }: Claim, indexes: readonly number[], startedAt: number): void {
    const started = indexes.map((index) => {
      const { acceptedAt, echo, notify, trace } = predictions.get(index) as BundledPrediction;
      const head = { state: 'running' as const, model: model.name, version: model.version, acceptedAt, startedAt, ...(attempt > 1 && { attempts: attempt - 1 }), ...(echo && { echo }), ...(trace && { trace }) };
      return { index, notify, head };
    });
    tellStarted(this.#redis, { pool: this.#pool, tenant, bundleId }, started).catch(this.#onError);
  }
}
