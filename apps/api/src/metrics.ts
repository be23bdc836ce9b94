// The API's metrics (docs/04-metrics.md).
import { buckets, Counter, Gauge, Histogram, type Registry } from '@millrace/process';
import { lanes } from '@millrace/protocol';
import type { Admission } from '@millrace/queue';
import type { FastifyInstance } from 'fastify';

export interface ApiMetrics {
  readonly rejected: Counter<'reason'>;
  /** Predictions of each bundle that was sent. */
  readonly bundleSize: Histogram;
  readonly predictions: Counter<'model' | 'version' | 'outcome'>;
  readonly openStreams: Gauge<'kind'>;
  /** Those whose reader was too slow. */
  readonly droppedStreams: Counter<'kind'>;
}

/** Registers the API's metrics. What `admission` reads of Redis is served as it stood last, so that a scrape waits for nothing. */
export function createApiMetrics(registry: Registry, admission: Admission): ApiMetrics {
  const registers = [registry];
  // The first gauge fills its neighbours too. Without Redis there is nothing to say, but the rest is served.
  new Gauge({
    name: 'millrace_queue_depth', help: 'Rows accepted and not settled', labelNames: ['queue'], registers,
    collect() {
      for (const gauge of [this, oldest, drain, memory]) gauge.reset();
      for (const [pool, { demand, drain: { rowsPerSecond } }] of admission.pools) {
        for (const lane of lanes) {
          this.set({ queue: `${pool}/${lane}` }, demand.lanes[lane].rows);
          oldest.set({ queue: `${pool}/${lane}` }, demand.lanes[lane].oldestSeconds);
        }
        if (rowsPerSecond !== undefined) drain.set({ pool }, rowsPerSecond);
      }
      if (!admission.memory) return;
      const { usedBytes, maxBytes, refusedFromBytes } = admission.memory;
      memory.set({ kind: 'used' }, usedBytes);
      if (maxBytes > 0) memory.set({ kind: 'refused_from' }, refusedFromBytes);
    },
  });
  const oldest = new Gauge({ name: 'millrace_queue_oldest_age_seconds', help: 'Age of the oldest waiting bundle', labelNames: ['queue'], registers });
  const drain = new Gauge({ name: 'millrace_queue_drain_rows_per_second', help: 'Rows settled a second while rows wait', labelNames: ['pool'], registers });
  const memory = new Gauge({ name: 'millrace_redis_memory_bytes', help: 'Memory that Redis uses, and from where on nothing more is queued', labelNames: ['kind'], registers });
  const limit = new Gauge({ name: 'millrace_queue_limit_rows', help: 'Most rows that may be accepted and not settled', labelNames: ['of'], registers });
  limit.set({ of: 'pool' }, admission.limits.maxQueuedRows);
  limit.set({ of: 'tenant' }, admission.limits.maxQueuedRowsPerTenant);
  return {
    rejected: new Counter({ name: 'millrace_rejected_total', help: 'Requests and batch items refused, by problem type', labelNames: ['reason'], registers }),
    bundleSize: new Histogram({ name: 'millrace_bundle_size', help: 'Predictions of one bundle', buckets: [...buckets.rows], registers }),
    predictions: new Counter({ name: 'millrace_predictions_total', help: 'Predictions settled by this process', labelNames: ['model', 'version', 'outcome'], registers }),
    openStreams: new Gauge({ name: 'millrace_event_streams', help: 'Event streams that are open', labelNames: ['kind'], registers }),
    droppedStreams: new Counter({ name: 'millrace_event_streams_dropped_total', help: 'Event streams that were cut because their reader was too slow', labelNames: ['kind'], registers }),
  };
}

/** Observes every request's duration by route. */
export function observeRequests(app: FastifyInstance, registry: Registry): void {
  const duration = new Histogram({
    name: 'millrace_http_request_duration_seconds', help: 'Time from the request’s head to the answer’s last byte',
    labelNames: ['method', 'route', 'status_class'], buckets: [...buckets.endToEnd], registers: [registry],
  });
  // Looking a child up by its labels costs more than observing it.
  const children = new Map<string, Histogram.Internal<string>>();
  app.addHook('onResponse', (request, reply, done) => {
    const route = request.routeOptions.url ?? 'none';
    const key = `${request.method}${route}${reply.statusCode}`;
    let child = children.get(key);
    if (!child) children.set(key, child = duration.labels(request.method, route, `${Math.floor(reply.statusCode / 100)}xx`));
    child.observe(reply.elapsedTime / 1000);
    done();
  });
}
