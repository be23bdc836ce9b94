// The autoscaler's metrics (docs/04-metrics.md).
import { Counter, Gauge, type Registry, type ServiceState } from '@millrace/process';
import type { Decisions } from './decisions.ts';

export interface PoolMetrics {
  leads(leads: boolean): void;
  decided(before: number, desired: number): void;
}

/** What the gauges read at each scrape. */
export interface AutoscalerGauges {
  readonly decisions: Decisions;
  /** Those that this process supervises. */
  readonly workers: () => readonly { readonly pool: string; readonly state: ServiceState }[];
}

export class AutoscalerMetrics {
  readonly #leads;
  readonly #events;
  readonly #restarts;

  constructor(registry: Registry, { decisions, workers }: AutoscalerGauges) {
    const registers = [registry];
    new Gauge({
      name: 'millrace_workers_desired', help: 'Workers that the pool should have, as this process has decided', labelNames: ['pool'], registers,
      collect() {
        this.reset();
        for (const [pool, desired] of decisions.all()) this.set({ pool }, desired);
      },
    });
    this.#leads = new Gauge({ name: 'millrace_autoscaler_leads', help: 'Whether this process is the one that scales the pool', labelNames: ['pool'], registers });
    this.#events = new Counter({ name: 'millrace_scale_events_total', help: 'Decisions that changed how many workers a pool should have', labelNames: ['pool', 'direction'], registers });
    this.#restarts = new Counter({ name: 'millrace_worker_restarts_total', help: 'Worker processes of this machine that ended by themselves and were started again', labelNames: ['pool'], registers });
    new Gauge({
      name: 'millrace_supervised_workers', help: 'Worker processes of this machine', labelNames: ['pool', 'state'], registers,
      collect() {
        this.reset();
        for (const { pool, state } of workers()) this.inc({ pool, state });
      },
    });
  }

  restarted(pool: string): void {
    this.#restarts.inc({ pool });
  }

  of(pool: string): PoolMetrics {
    return {
      leads: (leads) => this.#leads.set({ pool }, leads ? 1 : 0),
      decided: (before, desired) => {
        if (desired !== before) this.#events.inc({ pool, direction: desired > before ? 'out' : 'in' });
      },
    };
  }
}
