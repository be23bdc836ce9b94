// The autoscaler: decides how many workers each pool should have, and starts and stops them.
import { fileURLToPath } from 'node:url';
import { createLogger, createRegistry, Lifecycle, printableUrl, serveHealth, startingConfig } from '@millrace/process';
import { autoscalerLease, connect, publishDecision, untilArrival, untilReady } from '@millrace/queue';
import manifest from '../package.json' with { type: 'json' };
import { AutoscalerConfig } from './config.ts';
import { Decisions } from './decisions.ts';
import { demandOf, replicasOf } from './demand.ts';
import { Deployments } from './kubernetes.ts';
import { PoolLoop } from './loop.ts';
import { AutoscalerMetrics } from './metrics.ts';
import { readDeployments, readPools } from './pools.ts';
import { relay } from './relay.ts';
import { Supervisor } from './supervisor.ts';

const config = startingConfig('The Millrace autoscaler', AutoscalerConfig, process);
const { pollSeconds, shutdownSeconds } = config;
const log = createLogger('autoscaler', manifest.version, config.logLevel);
const pools = readPools(config.pools);
const withProcesses = config.actuator === 'processes';
/** Workers have their time, then some to be killed, and then this process some to end. */
const graceMs = { worker: (shutdownSeconds + 5) * 1000, all: (shutdownSeconds + (withProcesses ? 10 : 0)) * 1000 };
const life = new Lifecycle(log, graceMs.all);
/** After which another autoscaler takes over from one that died, and what it decided is forgotten. */
const leaseSeconds = Math.max(10, Math.ceil(3 * pollSeconds));
const onError = (error: unknown) => log.warn({ err: error }, 'Redis connection failed');
// Decisions go by differences of times, which a clock that is set would spoil.
const now = () => performance.now();

const redis = connect(config, 'producer', onError);
life.own('redis', () => redis.disconnect());
await untilReady(redis, 30_000);

const registry = createRegistry('autoscaler', manifest.version);
const decisions = new Decisions(pools.keys(), leaseSeconds * 1000, now);
const metrics = new AutoscalerMetrics(registry, { decisions, workers: () => supervisor?.states() ?? [] });
const supervisor = withProcesses ? new Supervisor({
  args: [fileURLToPath(new URL('../../worker/src/main.ts', import.meta.url))],
  // Its settings are those of this process, so that there is one place for them.
  env: { ...process.env, MILLRACE_METRICS_PORT: '0' },
  graceMs: graceMs.worker,
  // To start it may take as long as a pod of the Helm chart; what it holds when it is silent is others' by then (BullMQ's lock).
  hung: { startMs: 300_000, silentMs: 15_000 },
  onLog: relay(process.stdout, log),
  onRestart: (pool) => metrics.restarted(pool),
}) : undefined;
const actuator = supervisor ?? new Deployments({
  url: config.kubernetesUrl, account: config.kubernetesAccount, names: readDeployments(config.deployments), timeoutMs: 5000,
  elsewhere: (pool) => replicasOf(redis, pool),
});
life.own('workers', () => actuator.stop());

// gRPC takes 16 MB and a sixth of a second to load, which are for those who use it.
const keda = config.kedaPort === undefined ? undefined : await (await import('./keda.ts')).serveKeda({ host: config.kedaHost, port: config.kedaPort, decisions });
life.own('keda', () => keda?.stop());

for (const [pool, bounds] of pools) {
  const blocking = connect(config, 'blocking', onError);
  const loop = new PoolLoop({
    pool, actuator, log, limits: { ...config, ...bounds }, pollMs: pollSeconds * 1000,
    lease: autoscalerLease(redis, pool, leaseSeconds * 1000),
    read: demandOf(redis, pool, now),
    publish: ({ desired, reason }) => {
      decisions.tell(pool, desired);
      return publishDecision(redis, pool, { desiredWorkers: desired, reason, decidedAt: Date.now() }, leaseSeconds);
    },
    untilArrival: (ms) => untilArrival(blocking, pool, ms),
    metrics: metrics.of(pool),
    now,
  });
  loop.start();
  life.own(`loop of ${pool}`, async () => {
    blocking.disconnect();
    await loop.stop();
  });
}

const health = await serveHealth({ host: config.metricsHost, port: config.metricsPort, registry, checks: { redis: () => redis.ping() } });
life.own('health', health.stop);
log.info({ redis: printableUrl(config.redisUrl), pools: config.pools, metricsPort: health.port, kedaPort: keda?.port }, 'autoscaler is ready');
