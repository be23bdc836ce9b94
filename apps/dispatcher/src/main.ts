// The dispatcher process: tells those who asked for it what became of predictions, and coordinates backfills.
import { randomUUID } from 'node:crypto';
import { newSecret, readDelays, Sender, TargetPolicy } from '@millrace/delivery';
import { createLogger, createRegistry, Lifecycle, printableUrl, serveHealth, startingConfig, startTracing } from '@millrace/process';
import { allowedNetworks, connect, DeliveryStore, EndpointStore, ReplyQueues, type Role, untilReady } from '@millrace/queue';
import manifest from '../package.json' with { type: 'json' };
import { BackfillHost } from './backfill-host.ts';
import { DispatcherConfig } from './config.ts';
import { Courier, leaseMsFor } from './courier.ts';
import { FanOut } from './fan-out.ts';
import { DispatcherMetrics } from './metrics.ts';
import { Newcomers } from './newcomers.ts';
import { PoolReaders } from './pool-readers.ts';
import { Postbox } from './postbox.ts';

const config = startingConfig('The Millrace dispatcher', DispatcherConfig, process);
const timeoutMs = config.webhookTimeoutSeconds * 1000;
const log = createLogger('dispatcher', manifest.version, config.logLevel);
const life = new Lifecycle(log, config.shutdownSeconds * 1000);
const tracer = await startTracing({ service: 'dispatcher', version: manifest.version, settings: config, log });
life.own('tracing', () => tracer?.stop());
const onError = (error: unknown) => log.warn({ err: error }, 'Redis connection failed');
const connectAs = (role: Role) => connect(config, role, onError);

const redis = connectAs('worker');
life.own('redis', () => redis.disconnect());
await untilReady(redis, 30_000);

const registry = createRegistry('dispatcher', manifest.version);
const metrics = new DispatcherMetrics(registry, {
  running: () => courier.running,
  openBreakers: () => courier.openBreakers,
  backfills: () => backfills?.states ?? new Map(),
});
const endpoints = new EndpointStore(redis);
const deliveries = new DeliveryStore(redis, config.deliveryRetentionSeconds, leaseMsFor(timeoutMs));
const sender = new Sender({ policy: new TargetPolicy({ allowedNetworks: allowedNetworks(config) }), timeoutMs });
life.own('sender', () => sender.close());
const replyQueues = new ReplyQueues(redis);
life.own('reply queues', () => replyQueues.close());
const courier = new Courier({
  deliveries, endpoints, metrics, log, timeoutMs,
  postbox: new Postbox({ sender, replyQueues, endpoints, tracer, newSecret, version: manifest.version }),
  delaysMs: readDelays(config.webhookRetrySeconds),
  perHost: config.webhookConcurrencyPerHost,
  disableMs: config.webhookDisableSeconds * 1000,
  longestMs: config.deliveryRetentionSeconds * 1000,
});
courier.start();
life.own('courier', () => courier.stop());

const retelling = setInterval(() => { endpoints.retell().catch(onError); }, 60_000);
life.own('retelling', () => clearInterval(retelling));
const fanOut = new FanOut({ redis, endpoints, deliveries, courier, newcomers: new Newcomers(courier, deliveries) });
const readers = new PoolReaders({
  redis, connectBlocking: () => connectAs('blocking'), consumer: randomUUID(), onError: (error) => log.warn({ err: error }, 'results queue cannot be read'),
  onEvents: async (events, again) => {
    await fanOut.take(events, again);
    metrics.took(events.length);
  },
});
await readers.start();
life.own('readers', () => readers.stop());

const backfills = config.backfillWork === undefined ? undefined
  : new BackfillHost({ work: config.backfillWork, config, version: manifest.version }, metrics, (error) => life.fail(error));
await backfills?.ready();
life.own('backfills', () => backfills?.stop());

const health = await serveHealth({ host: config.metricsHost, port: config.metricsPort, registry, checks: { redis: () => redis.ping() } });
life.own('health', health.stop);
log.info({ redis: printableUrl(config.redisUrl), metricsPort: health.port }, 'dispatcher is ready');
