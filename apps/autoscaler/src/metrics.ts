// The autoscaler's metrics (docs/04-metrics.md).
import { Counter, Gauge, type Registry, type ServiceState } from '@millrace/process';

export interface PoolMetrics {
  leads(leads: boolean): void;
  decided(before: number, desired: number): void;
}

export class AutoscalerMetrics {
  readonly #desired;
  readonly #leads;
  readonly #events;
  readonly #restarts;

  /** `workers`: those that this process supervises. */
  constructor(registry: Registry, workers: () => readonly { readonly pool: string; readonly state: ServiceState }[]) {
    const registers = [registry];
    this.#desired = new Gauge({ name: 'millrace_workers_desired', help: 'Workers that the pool should have, as this process has decided', labelNames: ['pool'], registers });
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
      leads: (leads) => {
        this.#leads.set({ pool }, leads ? 1 : 0);
        if (!leads) this.#desired.remove({ pool });
      },
      decided: (before, desired) => {
        this.#desired.set({ pool }, desired);
        if (desired !== before) this.#events.inc({ pool, direction: desired > before ? 'out' : 'in' });
      },
    };
  }
}
