// The dispatcher's metrics (docs/04-metrics.md).
import { type AttemptResult, verdictOf } from '@millrace/delivery';
import { buckets, Counter, Gauge, Histogram, type Registry } from '@millrace/process';

/** What the gauges read at each scrape. */
export interface DispatcherGauges {
  readonly running: () => number;
  readonly openBreakers: () => number;
  /** By pool. */
  readonly resultsQueues: () => Promise<ReadonlyMap<string, { readonly length: number; readonly oldestSeconds: number }>>;
}

export class DispatcherMetrics {
  readonly #attempts;
  readonly #duration;
  readonly #events;

  constructor(registry: Registry, { running, openBreakers, resultsQueues }: DispatcherGauges) {
    const registers = [registry];
    this.#attempts = new Counter({ name: 'millrace_webhook_attempts_total', help: 'Attempts of deliveries, by what came of them', labelNames: ['outcome'], registers });
    this.#duration = new Histogram({ name: 'millrace_webhook_attempt_duration_seconds', help: 'From connecting to the answer', buckets: [...buckets.endToEnd], registers });
    this.#events = new Counter({ name: 'millrace_events_total', help: 'Events taken from the results queue', registers });
    new Gauge({ name: 'millrace_webhook_running', help: 'Attempts under way', registers, collect() { this.set(running()); } });
    new Gauge({ name: 'millrace_webhook_breaker_open', help: 'Hosts that are left alone because they do not answer', registers, collect() { this.set(openBreakers()); } });
    const oldest = new Gauge({ name: 'millrace_results_queue_oldest_age_seconds', help: 'Age of the oldest entry of the results queue', labelNames: ['pool'], registers });
    new Gauge({
      name: 'millrace_results_queue_length', help: 'Bundles whose events wait for a dispatcher', labelNames: ['pool'], registers,
      async collect() {
        for (const gauge of [this, oldest]) gauge.reset();
        for (const [pool, { length, oldestSeconds }] of await resultsQueues()) {
          this.set({ pool }, length);
          oldest.set({ pool }, oldestSeconds);
        }
      },
    });
  }

  took(events: number): void {
    this.#events.inc(events);
  }

  attempted(result: AttemptResult): void {
    this.#attempts.inc({ outcome: result.kind === 'answered' ? (verdictOf(result) === 'delivered' ? 'delivered' : `${Math.floor(result.status / 100)}xx`) : result.kind });
    this.#duration.observe(result.durationMs / 1000);
  }
}
