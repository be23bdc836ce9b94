import { type Checks, type Registry, runChecks } from '@millrace/process';
import { Health } from '@millrace/protocol';
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';
import { explainProblem } from '../problems.ts';

/** Whether the process lives, whether it can work, what it measures, and what its problem types mean. */
export function healthRoutes(app: FastifyInstance, { checks, registry }: { checks: Checks; registry: Registry }): void {
  const about = (summary: string) => ({ config: { scope: 'public' as const }, schema: { tags: ['operations'], summary, response: { 200: Health, 503: Health } } });

  app.get('/healthz', about('Whether the process answers'), () => ({ status: 'ok', checks: {} }));

  app.get('/readyz', about('Whether predictions can be accepted'), async (_request, reply) => {
    const report = await runChecks(checks);
    return reply.code(report.status === 'ok' ? 200 : 503).send(report);
  });

  app.get('/metrics', {
    config: { scope: 'metrics:read' },
    schema: { tags: ['operations'], summary: 'Prometheus metrics', response: { 200: { description: 'Prometheus text format', content: { 'text/plain': { schema: Type.String() } } } } },
  }, async (_request, reply) =>
    reply.type(registry.contentType).send(await registry.metrics()));

  app.get<{ Params: { code: string } }>('/problems/:code', { config: { scope: 'public' }, schema: { hide: true } }, ({ params }) => explainProblem(params.code));
}
