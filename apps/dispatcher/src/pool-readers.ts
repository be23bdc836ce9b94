// Readers of the results queues, one for each pool that there is and one for backfills.
import { backfillsPool, type Redis, readPools, type ResultEvent, ResultsReader } from '@millrace/queue';

export interface PoolReadersOptions {
  readonly redis: Redis;
  /** Opens the connection that waits for the events of one pool. */
  readonly connectBlocking: () => Redis;
  readonly consumer: string;
  readonly onEvents: (events: readonly ResultEvent[], again: boolean) => Promise<void>;
  readonly onError: (error: unknown) => void;
}

const lookEveryMs = 2000;

export class PoolReaders {
  readonly #options: PoolReadersOptions;
  readonly #readers = new Map<string, ResultsReader>();
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;
  #stopped = false;

  constructor(options: PoolReadersOptions) {
    this.#options = options;
  }

  /** Resolves once every pool of now is read; those that come are read within seconds. */
  async start(): Promise<void> {
    await this.#look();
    this.#lookOn();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    await this.#looking;
    await Promise.all([...this.#readers.values()].map((reader) => reader.stop()));
  }

  #lookOn(): void {
    this.#timer = setTimeout(() => {
      this.#looking = this.#look().catch(this.#options.onError).then(() => { if (!this.#stopped) this.#lookOn(); });
    }, lookEveryMs);
  }

  async #look(): Promise<void> {
    const { redis, connectBlocking, consumer, onEvents, onError } = this.#options;
    for (const pool of [backfillsPool, ...await readPools(redis)]) {
      if (this.#readers.has(pool)) continue;
      const reader = new ResultsReader({ redis, blocking: connectBlocking(), pool, consumer, onEvents, onError });
      this.#readers.set(pool, reader);
      reader.start();
    }
  }
}
