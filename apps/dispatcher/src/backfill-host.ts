// The main thread's side of the backfill thread.
import { Worker } from 'node:worker_threads';
import type { BackfillState, ErrorCode } from '@millrace/protocol';
import type { DispatcherConfig } from './config.ts';
import type { DispatcherMetrics } from './metrics.ts';

/** The thread's `workerData`; `work` is the setting `backfillWork`. */
export interface BackfillThreadData {
  readonly work: string;
  readonly config: DispatcherConfig;
  readonly version: string;
}

/** What the thread tells. */
export type BackfillNews =
  | { readonly kind: 'ready' }
  /** Rows have an outcome. */
  | { readonly kind: 'rows'; readonly done: number; readonly failed: number }
  | { readonly kind: 'chunk retried'; readonly reason: ErrorCode }
  /** How many backfills it works on, by state. */
  | { readonly kind: 'states'; readonly states: ReadonlyMap<BackfillState, number> };

export class BackfillHost {
  readonly #worker: Worker;
  readonly #metrics: DispatcherMetrics;
  #states: ReadonlyMap<BackfillState, number> = new Map();
  readonly #ready = Promise.withResolvers<void>();
  readonly #exited = Promise.withResolvers<void>();
  #stopping = false;

  /** `onDeath`: the thread has ended for want of memory, or by a bug. */
  constructor(data: BackfillThreadData, metrics: DispatcherMetrics, onDeath: (error: Error) => void) {
    this.#metrics = metrics;
    this.#worker = new Worker(new URL('./backfill-thread.ts', import.meta.url), { name: 'backfills', workerData: data });
    this.#worker.on('message', (news: BackfillNews) => this.#hear(news));
    this.#worker.on('error', onDeath);
    this.#worker.on('exit', (code) => {
      this.#exited.resolve();
      if (!this.#stopping) onDeath(new Error(`the backfill thread ended with code ${code}`));
    });
  }

  get states(): ReadonlyMap<BackfillState, number> {
    return this.#states;
  }

  /** Resolves when the thread has started. */
  ready(): Promise<void> {
    return this.#ready.promise;
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    this.#worker.postMessage('stop', []);
    await this.#exited.promise;
  }

  #hear(news: BackfillNews): void {
    switch (news.kind) {
      case 'ready': return this.#ready.resolve();
      case 'rows': return this.#metrics.backfilled(news);
      case 'chunk retried': return this.#metrics.chunkRetried(news.reason);
      case 'states':
        this.#states = news.states;
        return;
      default: return news satisfies never;
    }
  }
}
