// The API's metrics (docs/04-metrics.md).
import { buckets, Counter, Gauge, Histogram, type Registry } from '@millrace/process';
import { lanes } from '@millrace/protocol';
import { readDepth, type Redis } from '@millrace/queue';
import type { FastifyInstance } from 'fastify';

export interface ApiMetrics {
  readonly rejected: Counter<'reason'>;
  /** Predictions of each bundle that was sent. */
  readonly bundleSize: Histogram;
  readonly predictions: Counter<'model' | 'version' | 'outcome'>;
}

/** Registers the API's metrics. `pools` are those whose depth is read at each scrape. */
export function createApiMetrics(registry: Registry, redis: Redis, pools: () => Iterable<string>): ApiMetrics {
  const registers = [registry];
  // Before the age, so that a scrape reads both at once. Without Redis there is nothing to say, but the rest is served.
  new Gauge({
    name: 'millrace_queue_depth', help: 'Rows accepted and not settled', labelNames: ['queue'], registers,
    async collect() {
      this.reset();
      oldest.reset();
      for (const pool of pools()) {
        const depths = await readDepth(redis, pool).catch(() => undefined);
        for (const lane of depths ? lanes : []) {
          this.set({ queue: `${pool}/${lane}` }, depths?.[lane].rows ?? 0);
          oldest.set({ queue: `${pool}/${lane}` }, depths?.[lane].oldestSeconds ?? 0);
        }
      }
    },
  });
  const oldest = new Gauge({ name: 'millrace_queue_oldest_age_seconds', help: 'Age of the oldest waiting bundle', labelNames: ['queue'], registers });
  return {
    rejected: new Counter({ name: 'millrace_rejected_total', help: 'Requests and batch items refused, by problem type', labelNames: ['reason'], registers }),
    bundleSize: new Histogram({ name: 'millrace_bundle_size', help: 'Predictions of one bundle', buckets: [...buckets.rows], registers }),
    predictions: new Counter({ name: 'millrace_predictions_total', help: 'Predictions settled by this process', labelNames: ['model', 'version', 'outcome'], registers }),
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
