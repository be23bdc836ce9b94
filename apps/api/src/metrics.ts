// The API's metrics (docs/04-metrics.md).
import { buckets, Counter, Gauge, Histogram, type Registry } from '@millrace/process';
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

/** Registers those that requests are counted by. */
export function createApiMetrics(registry: Registry): ApiMetrics {
  const registers = [registry];
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
