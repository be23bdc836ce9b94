// Prometheus metrics. Names are part of the public interface (docs/04-metrics.md).
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Registry } from 'prom-client';

export { Counter, Gauge, Histogram, type Registry } from 'prom-client';

/** Seconds. HTTP and queue waits: OpenTelemetry's buckets with finer ones below; end-to-end times reach to minutes. */
export const buckets = {
  duration: [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  endToEnd: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
  ratio: [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
  rows: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
} as const;

const nanosecondsPerSecond = 1e9;

/** A registry with what every process has: build information and the event loop's lag since the last scrape. */
export function createRegistry(service: string, version: string): Registry {
  const registry = new Registry();
  registry.setDefaultLabels({ service });
  new Gauge({ name: 'millrace_build_info', help: 'Constant 1, labelled with the version', labelNames: ['version', 'node'], registers: [registry] })
    .set({ version, node: process.version }, 1);
  new Gauge({
    name: 'process_resident_memory_bytes', help: 'Resident memory', registers: [registry],
    collect() { this.set(process.memoryUsage.rss()); },
  });
  new Counter({
    name: 'process_cpu_seconds_total', help: 'User and system CPU time', registers: [registry],
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  const lag = monitorEventLoopDelay({ resolution: 10 });
  lag.enable();
  new Gauge({
    name: 'millrace_event_loop_lag_seconds', help: 'How late timers fired since the last scrape', labelNames: ['quantile'], registers: [registry],
    collect() {
      // The monitor reports the timer's whole period; the lag is what exceeds its 10 ms.
      for (const quantile of [50, 99, 100]) {
        const lateNs = lag.count === 0 ? 0 : Math.max(0, lag.percentile(quantile) - 10e6);
        this.set({ quantile: String(quantile / 100) }, lateNs / nanosecondsPerSecond);
      }
      lag.reset();
    },
  });
  return registry;
}
