// A span for each request of the API, from the caller's trace on where it has one.
import type { Span, Tracer } from '@millrace/process';
import type { FastifyInstance } from 'fastify';

declare module 'fastify' {
  interface FastifyRequest {
    /** Where it is traced. */
    span: Span | undefined;
  }
}

/** Health, metrics and documentation are asked for all the time and say nothing of predictions. */
const traced = '/api/';

export function traceRequests(app: FastifyInstance, tracer: Tracer | undefined): void {
  app.decorateRequest('span', undefined);
  if (!tracer) return;
  app.addHook('onRequest', (request, _reply, done) => {
    const { method, headers, routeOptions: { url: route } } = request;
    if (route?.startsWith(traced)) {
      request.span = tracer.start(`${method} ${route}`, {
        kind: 'server', parent: headers, attributes: { 'http.request.method': method, 'http.route': route, 'url.scheme': request.protocol, 'url.path': request.url.split('?')[0] ?? '' },
      });
    }
    done();
  });
  app.addHook('onResponse', ({ span }, { statusCode }, done) => {
    span?.end({ attributes: { 'http.response.status_code': statusCode }, error: statusCode >= 500 ? String(statusCode) : undefined });
    done();
  });
}
