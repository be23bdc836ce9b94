// Preloaded into the API process by the benchmark: a POST route that parses the same body and answers a constant, so
// that both are measured on the same server. The product has no such route.
import { subscribe } from 'node:diagnostics_channel';
import type { FastifyInstance } from 'fastify';

subscribe('fastify.initialization', (message) => {
  const { fastify } = message as { fastify: FastifyInstance };
  // An own scope, so that it is there when the server's own parsers are.
  void fastify.register((scope, _options, done) => {
    scope.post('/noop', { config: { scope: 'public' } }, () => ({ ok: true }));
    done();
  });
});
