// The API process: accepts predictions, answers with results.
import { randomUUID } from 'node:crypto';
import { TargetPolicy } from '@millrace/delivery';
import { ModelRepository } from '@millrace/models';
import { createLogger, createRegistry, Lifecycle, printableUrl, startingConfig, startTracing } from '@millrace/process';
import {
  Admission, allowedNetworks, BackfillStore, connect, DeliveryStore, EndpointStore, findWeaknesses, IdempotencyKeys, KeyRate, KeyRing, Producer, type Role, untilReady,
} from '@millrace/queue';
import manifest from '../package.json' with { type: 'json' };
import { Backfills } from './backfills.ts';
import { Checker } from './check.ts';
import { ApiConfig } from './config.ts';
import { Deliveries } from './deliveries.ts';
import { Endpoints } from './endpoints.ts';
import { EventStreams } from './event-stream.ts';
import { isExposed, refuseOpenDoor } from './exposure.ts';
import { Intake } from './intake.ts';
import { createApiMetrics } from './metrics.ts';
import { observePools } from './pool-metrics.ts';
import { PredictionStreams } from './prediction-streams.ts';
import { Predictions } from './predictions.ts';
import { createServer } from './server.ts';
import { Targets } from './targets.ts';
import { TenantFeeds } from './tenant-feeds.ts';
import { Waiters } from './waiters.ts';

const config = startingConfig('The Millrace API', ApiConfig, process);
const log = createLogger('api', manifest.version, config.logLevel);
const life = new Lifecycle(log, config.shutdownSeconds * 1000);
const { retentionSeconds } = config;
const tracer = await startTracing({ service: 'api', version: manifest.version, settings: config, log });
life.own('tracing', () => tracer?.stop());
const onError = (error: unknown) => log.warn({ err: error }, 'Redis connection failed');
const connectAs = (role: Role) => connect(config, role, onError);
const targets = new Targets(new TargetPolicy({ allowedNetworks: allowedNetworks(config) }));

const repository = new ModelRepository(config.models, {
  onChange: ({ added, removed, refused, realiased }) => log.info({
    added: added.map(({ id }) => `${id.name}@${id.version}`), removed: removed.map(({ id }) => `${id.name}@${id.version}`),
    refused, aliases: Object.fromEntries(realiased.map(({ name, manifest: { aliases } }) => [name, aliases])),
  }, 'models changed'),
});
await repository.scan();
const scanning = new AbortController();
life.own('model scan', () => scanning.abort());
void repository.watch(config.modelScanSeconds * 1000, scanning.signal, (error) => log.error({ err: error }, 'model repository cannot be read'));

const redis = connectAs('producer');
life.own('redis', () => redis.disconnect());
await untilReady(redis, 30_000);
for (const weakness of await findWeaknesses(redis)) log.warn(weakness, 'Redis may lose what is accepted');
const keys = new KeyRing(redis, onError);
await keys.start();
life.own('keys', () => keys.stop());
const exposed = await isExposed(config.host);
refuseOpenDoor(config.host, exposed, keys);
const producer = new Producer(redis, retentionSeconds);
life.own('producer', () => producer.close());
const waiters = new Waiters({ redis, connectBlocking: () => connectAs('blocking'), node: randomUUID(), retentionSeconds, onError });
waiters.start();
life.own('waiters', () => waiters.stop());

const pools = () => new Set(repository.models.map((model) => model.manifest.pool));
const admission = new Admission({ redis, pools, limits: config, onError: (error) => log.warn({ err: error }, 'queue depth cannot be read') });
await admission.start();
life.own('admission', () => admission.stop());

const idempotency = new IdempotencyKeys(redis, retentionSeconds);
const endpointStore = new EndpointStore(redis);
const deliveries = new DeliveryStore(redis, config.deliveryRetentionSeconds);
const registry = createRegistry('api', manifest.version);
const metrics = createApiMetrics(registry);
observePools(registry, admission);
const predictions = new Predictions({ redis, pools, waiters, metrics, retentionSeconds });
const predictionStreams = new PredictionStreams({ redis, predictions, waiters, onError });
predictionStreams.start();
life.own('prediction streams', () => predictionStreams.stop());
const feeds = new TenantFeeds({ redis, pools, onError });
feeds.start();
life.own('tenant feeds', () => feeds.stop());
const streams = new EventStreams(metrics);
streams.start();

const server = await createServer({
  ...config, log, tracer, registry, keys, exposed, keyRate: new KeyRate(redis), repository, metrics, version: manifest.version,
  checker: new Checker({ repository, targets, maxRows: config.maxRows }),
  intake: new Intake({ ...config, ...metrics, tracer, producer, admission, waiters, idempotency }),
  endpoints: new Endpoints({ store: endpointStore, deliveries, targets }),
  deliveries: new Deliveries(deliveries),
  backfills: new Backfills({ store: new BackfillStore(redis, retentionSeconds), idempotency, repository, places: config, targets }),
  redis, pools, admission, predictions, streams, predictionStreams, feeds,
  checks: {
    redis: () => redis.ping(),
    models: () => { if (repository.models.length === 0) throw new Error(`no model in ${config.models}`); },
  },
});
for (const pool of pools()) {
  await waiters.listenTo(pool);
  await endpointStore.openPool(pool).catch(onError);
}
const url = await server.listen({ host: config.host, port: config.port });
// Requests that wait are answered with what there is, and streams end, else they would hold the server open.
life.own('http', () => {
  const closed = server.close();
  waiters.release();
  streams.stop();
  return closed;
});
log.info({ url, redis: printableUrl(config.redisUrl), models: config.models, node: waiters.node }, 'api is ready');
