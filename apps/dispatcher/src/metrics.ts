// The dispatcher's metrics (docs/04-metrics.md).
import { type AttemptResult, verdictOf } from '@millrace/delivery';
import { buckets, Counter, Gauge, Histogram, type Registry } from '@millrace/process';
import type { BackfillState, ErrorCode } from '@millrace/protocol';
import type { DeliveryRecord } from '@millrace/queue';

/** What the gauges read at each scrape. */
export interface DispatcherGauges {
  readonly running: () => number;
  readonly openBreakers: () => number;
  /** Backfills that this process coordinates, by state. */
  readonly backfills: () => ReadonlyMap<BackfillState, number>;
}

export class DispatcherMetrics {
  readonly #attempts;
  readonly #duration;
  readonly #deliveries;
  readonly #deliverySeconds;
  readonly #events;
  readonly #backfillRows;
  readonly #chunkRetries;

  constructor(registry: Registry, { running, openBreakers, backfills }: DispatcherGauges) {
    const registers = [registry];
    this.#attempts = new Counter({ name: 'millrace_webhook_attempts_total', help: 'Attempts of deliveries, by what came of them', labelNames: ['outcome'], registers });
    this.#duration = new Histogram({ name: 'millrace_webhook_attempt_duration_seconds', help: 'From connecting to the answer', buckets: [...buckets.endToEnd], registers });
    this.#deliveries = new Counter({ name: 'millrace_webhook_deliveries_total', help: 'Deliveries that have ended', labelNames: ['outcome'], registers });
    this.#deliverySeconds = new Histogram({ name: 'millrace_webhook_delivery_duration_seconds', help: 'From the event to the receiver’s yes', buckets: [...buckets.endToEnd], registers });
    this.#events = new Counter({ name: 'millrace_events_total', help: 'Events taken from the results queue', registers });
    this.#backfillRows = new Counter({ name: 'millrace_backfill_rows_total', help: 'Rows of backfills that have an outcome', labelNames: ['outcome'], registers });
    this.#chunkRetries = new Counter({ name: 'millrace_chunk_retries_total', help: 'Chunks of backfills that failed and were queued again', labelNames: ['reason'], registers });
    new Gauge({
      name: 'millrace_backfills', help: 'Backfills that this process coordinates', labelNames: ['state'], registers,
      collect() {
        this.reset();
        for (const [state, count] of backfills()) this.set({ state }, count);
      },
    });
    new Gauge({ name: 'millrace_webhook_running', help: 'Attempts under way', registers, collect() { this.set(running()); } });
    new Gauge({ name: 'millrace_webhook_breaker_open', help: 'Hosts that are left alone because they do not answer', registers, collect() { this.set(openBreakers()); } });
  }

  took(events: number): void {
    this.#events.inc(events);
  }

  backfilled({ done, failed }: { readonly done: number; readonly failed: number }): void {
    this.#backfillRows.inc({ outcome: 'succeeded' }, done);
    this.#backfillRows.inc({ outcome: 'failed' }, failed);
  }

  chunkRetried(reason: ErrorCode): void {
    this.#chunkRetries.inc({ reason });
  }

  /** The delivery has come to its end. `at`: milliseconds since the epoch. */
  ended({ status, createdAt }: DeliveryRecord, at: number): void {
    this.#deliveries.inc({ outcome: status });
    if (status === 'delivered') this.#deliverySeconds.observe((at - createdAt) / 1000);
  }

  attempted(result: AttemptResult): void {
    this.#attempts.inc({ outcome: result.kind === 'answered' ? (verdictOf(result) === 'delivered' ? 'delivered' : `${Math.floor(result.status / 100)}xx`) : result.kind });
    this.#duration.observe(result.durationMs / 1000);
  }
}
