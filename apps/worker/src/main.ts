// A worker replica: claims bundles, runs micro-batches, settles predictions.
import { randomUUID } from 'node:crypto';
import { InferenceEngine } from '@millrace/inference';
import { ModelRepository, type ModelVersion } from '@millrace/models';
import { createLogger, createRegistry, Lifecycle, printableUrl, serveHealth, startingConfig } from '@millrace/process';
import { Cancellations, connect, Consumer, EndpointStore, findWeaknesses, Marks, Payloads, Presence, Settler, untilReady } from '@millrace/queue';
import manifest from '../package.json' with { type: 'json' };
import { openBulk } from './bulk.ts';
import { ClaimReader } from './claim-reader.ts';
import { WorkerConfig } from './config.ts';
import { WorkerMetrics } from './metrics.ts';
import { Predictor } from './predict.ts';
import { Runner } from './runner.ts';
import { Starts } from './starts.ts';

const config = startingConfig('A Millrace worker', WorkerConfig, process);
const { pool, inferenceThreads: threads } = config;
const log = createLogger('worker', config.logLevel);
const life = new Lifecycle(log, config.shutdownSeconds * 1000);
const onError = (error: unknown) => log.warn({ err: error }, 'Redis connection failed');

const registry = createRegistry('worker', manifest.version);
const metrics = new WorkerMetrics(registry, pool, {
  threads, claimedRows: () => predictor.claimedRows + (bulk?.claimedRows ?? 0), busyThreads: () => engine.busy, sessionBytes: () => engine.sessionBytes,
});
const engine = new InferenceEngine({
  threads,
  sessionMemoryBytes: config.sessionMemoryBytes,
  onLoad: ({ version: { id: { name, version } }, loadMs, thread, providers, batched }) => {
    metrics.loaded(name, loadMs / 1000);
    log.info({ model: name, version, loadMs: Math.round(loadMs), thread, providers, batched }, 'model loaded');
  },
  onWarning: (message, fields) => log.warn(fields, message),
  onCapacity: () => runner.pump(),
  onThreadDeath: (error) => life.fail(error),
});
let started = false;
const repository = new ModelRepository(config.models, {
  onChange: ({ added, removed, refused }) => {
    if (refused.length > 0) log.warn({ refused }, 'models refused');
    for (const version of removed) engine.release(version);
    if (started) void preload(added.filter((version) => repository.model(version.id.name)?.versions[0] === version));
  },
});
await repository.scan();
const redis = connect(config, 'worker', onError);
const subscriber = connect(config, 'subscriber', onError);
life.own('redis', () => { subscriber.disconnect(); redis.disconnect(); });
await untilReady(redis, 30_000);
for (const weakness of await findWeaknesses(redis)) log.warn(weakness, 'Redis may lose what is accepted');
const replica = randomUUID();
const presence = new Presence(redis, { pool, replica, threads });
presence.start();
life.own('presence', () => presence.stop());
const runner = new Runner({ engine, metrics, log });
const payloads = new Payloads(redis, pool);
const reader = new ClaimReader({ repository, payloads, log });
const cancellations = new Cancellations(subscriber, pool, (id) => predictor.cancel(id));
const consumer = new Consumer({
  redis, pool, lane: 'online', handlers: { bundle: (claim) => predictor.handle(claim) }, onError: (error) => log.warn({ err: error }, 'claiming failed'),
});
const marks = new Marks(redis, { pool, replica, retentionSeconds: config.retentionSeconds });
life.own('marks', () => marks.close());
// A Redis that is full takes nothing new, but what waits must be run: dispatchers tell who listens again every minute.
await new EndpointStore(redis).openPool(pool).catch(onError);
const starts = new Starts(redis, pool, onError);
await starts.start();
life.own('starts', () => starts.stop());
const predictor = new Predictor({
  reader, payloads, runner, cancellations, marks, starts, threads, metrics, log,
  settler: new Settler(redis, pool, config.retentionSeconds),
  onAppetite: (bundles) => { consumer.concurrency = bundles; },
});
const bulk = config.backfillWork === undefined ? undefined : await openBulk(config.backfillWork, {
  config, redis, replica, reader, runner, metrics, log, onThreadDeath: (error) => life.fail(error),
});
life.own('bulk', () => bulk?.close());
// From here on it may be told of cancellations.
await cancellations.start();

await engine.start();
life.own('engine', () => engine.stop());
started = true;
await preload(repository.models.flatMap(({ versions }) => versions.slice(0, 1)));
const scanning = new AbortController();
life.own('model scan', () => scanning.abort());
void repository.watch(config.modelScanSeconds * 1000, scanning.signal, (error) => log.error({ err: error }, 'model repository cannot be read'));
consumer.start();
bulk?.start();
presence.become('ready');
life.own('consumers', async () => {
  presence.become('draining');
  await Promise.all([consumer.stopClaiming(), bulk?.stopClaiming()]);
  runner.stop();
  predictor.stop();
  bulk?.stop();
  await Promise.all([consumer.close(), bulk?.ended()]);
});

const health = await serveHealth({ host: config.metricsHost, port: config.metricsPort, registry, checks: { redis: () => redis.ping() } });
life.own('health', health.stop);
log.info({ redis: printableUrl(config.redisUrl), models: config.models, pool, threads, metricsPort: health.port }, 'worker is ready');

/** Loads this pool's versions before they are asked for; one that cannot be loaded fails its predictions, not the worker. */
async function preload(versions: readonly ModelVersion[]): Promise<void> {
  await Promise.all(versions.filter((version) => version.manifest.pool === pool).map(async (version) => {
    try {
      await engine.preload(version);
    } catch (error) {
      log.error({ err: error, model: version.id.name, version: version.id.version }, 'model cannot be loaded');
    }
  }));
  // A thread that was loading takes work again.
  runner.pump();
}
