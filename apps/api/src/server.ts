// The HTTP server: parser, schemas, problem documents, documentation and routes.
import { randomBytes } from 'node:crypto';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import type { Checks, Logger, Registry } from '@millrace/process';
import type { ModelRepository } from '@millrace/models';
import type { KeyRate } from '@millrace/queue';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import type { Backfills } from './backfills.ts';
import { parseBody } from './body.ts';
import { admitCallers, type CallerOptions } from './callers.ts';
import { readBodiesWithin } from './decoding.ts';
import { observeRequests } from './metrics.ts';
import { problemReplies, replyWithProblems } from './problems.ts';
import { holdToQuotas } from './quotas.ts';
import { type AutoscaleRoutes, autoscaleRoutes } from './routes/autoscale.ts';
import { backfillRoutes } from './routes/backfills.ts';
import { deliveryRoutes } from './routes/deliveries.ts';
import { type EventRoutes, eventRoutes } from './routes/events.ts';
import { healthRoutes } from './routes/health.ts';
import { listRoutes } from './routes/list.ts';
import { modelRoutes } from './routes/models.ts';
import { type PredictionRoutes, predictionRoutes } from './routes/predictions.ts';
import { type WebhookRoutes, webhookRoutes } from './routes/webhooks.ts';

export interface ServerOptions extends PredictionRoutes, EventRoutes, WebhookRoutes, AutoscaleRoutes, CallerOptions {
  readonly keyRate: KeyRate;
  readonly repository: ModelRepository;
  readonly backfills: Backfills;
  readonly checks: Checks;
  readonly registry: Registry;
  readonly log: Logger;
  readonly version: string;
  readonly bodyLimitBytes: number;
}

/** Slow clients may take this long to send a request. */
const requestTimeoutMs = 60_000;
/** A client that neither sends nor reads for so long is cut off, and what was written for it is freed. Longer than any wait for a result. */
const silenceTimeoutMs = 120_000;

export async function createServer(options: ServerOptions): Promise<FastifyInstance> {
  const loggerInstance: FastifyBaseLogger = options.log;
  const problems = problemReplies(options.metrics.rejected, options.bodyLimitBytes);
  const app: FastifyInstance = Fastify({
    loggerInstance,
    // URLs that the router cannot read.
    frameworkErrors: (error, request, response) => { void problems.replyToFailure(error, request, response); },
    // A line a request would cost more than the request; failures are logged where they are handled.
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestIds(),
    bodyLimit: options.bodyLimitBytes,
    requestTimeout: requestTimeoutMs,
    connectionTimeout: silenceTimeoutMs,
    forceCloseConnections: 'idle',
    ajv: { customOptions: { allErrors: true, coerceTypes: false, removeAdditional: false, useDefaults: false } },
  });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, body, done) => {
    try {
      done(null, parseBody(body as string));
    } catch (error) {
      done(error as Error);
    }
  });
  observeRequests(app, options.registry);
  admitCallers(app, options);
  holdToQuotas(app, options.keyRate);
  readBodiesWithin(app, options.bodyLimitBytes);
  replyWithProblems(app, problems);
  await document(app, options.version);

  healthRoutes(app, options);
  await app.register((api, _options, done) => {
    predictionRoutes(api, options);
    listRoutes(api, options);
    eventRoutes(api, options);
    modelRoutes(api, options);
    backfillRoutes(api, options);
    webhookRoutes(api, options);
    deliveryRoutes(api, options);
    autoscaleRoutes(api, options);
    done();
  }, { prefix: '/api/v1' });
  await app.ready();
  return app;
}

/** Unique over restarts and nodes, and cheap. */
function requestIds(): () => string {
  const prefix = randomBytes(6).toString('hex');
  let count = 0;
  return () => `${prefix}-${++count}`;
}

/** In place of the plugin's own logo. */
const wordmark = '<svg xmlns="http://www.w3.org/2000/svg" width="160" height="40"><text x="0" y="29" font-family="sans-serif" font-size="26" font-weight="bold" fill="#fff">Millrace</text></svg>';

async function document(app: FastifyInstance, version: string): Promise<void> {
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Millrace', version, description: 'Queue-driven inference for ONNX models: submit predictions, wait for them or come back for the results.', license: { name: 'MIT' } },
      tags: [
        { name: 'predictions', description: 'Submit, read, list and cancel' },
        { name: 'backfills', description: 'One model over all rows of a file' },
        { name: 'events', description: 'Be told, over a connection that stays open' },
        { name: 'models', description: 'What can be run, and what its inputs look like' },
        { name: 'webhooks', description: 'Who is told of results, and the secrets that prove it' },
        { name: 'deliveries', description: 'What was told to whom, and telling it again' },
        { name: 'operations', description: 'Health, demand and metrics' },
      ],
      components: { securitySchemes: { apiKey: { type: 'http', scheme: 'bearer', description: 'An API key; the header `X-API-Key` takes it too. Until there is a key, nobody needs one.' } } },
    },
  });
  // The page's routes are the plugin's own; it shows nothing but the document, which is public.
  await app.register(async (docs) => {
    docs.addHook('onRoute', (route) => { route.config = { ...route.config, scope: 'public' }; });
    await docs.register(swaggerUi, { routePrefix: '/docs', logo: { type: 'image/svg+xml', content: wordmark }, uiConfig: { docExpansion: 'list', defaultModelRendering: 'model', tryItOutEnabled: true } });
  });
  app.get('/openapi.json', { config: { scope: 'public' }, schema: { hide: true } }, () => app.swagger());
}
