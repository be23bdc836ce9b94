// Millrace on one machine: a private Redis, the API, workers and the dispatcher, as the same processes that run in production.
import { fileURLToPath } from 'node:url';
import { Service, type ServiceLog } from '@millrace/process';
import { startRedis } from './redis.ts';

/** So many as there is work for, between these. */
export interface WorkerRange {
  readonly least: number;
  readonly most: number;
}

export interface SystemOptions {
  /** Path of a redis-server; not needed with `redisUrl`. */
  readonly redisServer: string | undefined;
  /** A Redis that runs already. */
  readonly redisUrl?: string | undefined;
  /** Where the private Redis keeps what it holds; without it, it forgets all when it stops. */
  readonly dataDir?: string | undefined;
  readonly models: string;
  /** Where the API listens: 127.0.0.1 where it is not said. Others need an API key in the Redis. */
  readonly host?: string | undefined;
  /** 0 picks a free port. */
  readonly port: number;
  /** A range is an autoscaler's to fill. */
  readonly workers: number | WorkerRange;
  /** Further settings by variable name, for all processes alike. */
  readonly env?: Readonly<Record<string, string>> | undefined;
  /** Arguments for the Node processes of API and workers. */
  readonly apiNodeArgs?: readonly string[] | undefined;
  readonly workerNodeArgs?: readonly string[] | undefined;
  readonly redisArgs?: readonly string[] | undefined;
  /** Is waited for when Redis serves and nothing else has been started. */
  readonly prepare?: ((redisUrl: string) => Promise<void>) | undefined;
  /** Without it, nobody is told of results who does not ask for them. */
  readonly dispatcher?: boolean | undefined;
  /** Takes every log line of the processes. */
  readonly onLog: ServiceLog;
}

export interface System {
  readonly url: string;
  readonly redisUrl: string;
  readonly redisPid: number | undefined;
  readonly api: Service;
  /** Those of a fixed number; else they are the autoscaler's. */
  readonly workers: readonly Service[];
  readonly dispatcher: Service | undefined;
  readonly autoscaler: Service | undefined;
  /** Where each of these workers serves its metrics, the dispatcher, and the autoscaler. */
  readonly workerUrls: readonly string[];
  readonly dispatcherUrl: string | undefined;
  readonly autoscalerUrl: string | undefined;
  /** Ends everything in reverse order. Idempotent. */
  stop(): Promise<void>;
  /** Ends the processes at once; Redis ends with this one. */
  kill(): void;
}

/** For webhooks to this machine itself, where nobody else can ask for them. */
export const loopbackNetworks = '127.0.0.0/8,::1/128';

const root = fileURLToPath(new URL('../../../../', import.meta.url));

/** Starts everything and resolves once the API serves and every worker of a fixed number claims. Ends what it started where that fails. */
export async function startSystem(options: SystemOptions): Promise<System> {
  const { redisServer, dataDir, redisArgs, onLog } = options;
  if (!redisServer && !options.redisUrl) throw new Error('there is no redis-server here: run `npm run setup`, or set REDIS_URL');
  const redis = options.redisUrl ? undefined : await startRedis({
    binary: redisServer ?? '', dataDir, args: redisArgs,
    onLoading: () => onLog('redis', { level: 'info', msg: 'loads what is in its data folder, however long that takes' }),
  });
  const redisUrl = redis?.url ?? options.redisUrl ?? '';
  const env = { ...inherited({ withPrivateRedis: redis !== undefined }), REDIS_URL: redisUrl, MILLRACE_MODELS: options.models, ...options.env };
  const services: Service[] = [];
  const stop = async (): Promise<void> => {
    await Promise.all(services.map((service) => service.stop()));
    await redis?.stop();
  };
  // What an autoscaler's workers say comes through it.
  const onLine: ServiceLog = (service, { replica = service, ...fields }) => onLog(String(replica), fields);
  const start = async (name: string, app: string, more: Record<string, string>, nodeArgs: readonly string[] = []) => {
    const service = new Service({ name, args: [...nodeArgs, `${root}apps/${app}/src/main.ts`], env: { ...env, ...more }, readyMessage: `${app} is ready`, onLog: onLine });
    services.push(service);
    return { service, ready: await service.start() };
  };
  try {
    await options.prepare?.(redisUrl);
    const { count, range } = typeof options.workers === 'number' ? { count: options.workers } : { count: 0, range: options.workers };
    const [api, dispatcher, autoscaler, ...workers] = await Promise.all([
      start('api', 'api', { MILLRACE_HOST: options.host ?? '127.0.0.1', MILLRACE_PORT: String(options.port) }, options.apiNodeArgs),
      options.dispatcher === false ? undefined : start('dispatcher', 'dispatcher', { MILLRACE_METRICS_PORT: '0' }),
      range && start('autoscaler', 'autoscaler', { MILLRACE_POOLS: `default=${range.least}..${range.most}`, MILLRACE_METRICS_PORT: '0' }),
      ...Array.from({ length: count }, (_, index) => start(`worker ${index + 1}`, 'worker', { MILLRACE_METRICS_PORT: '0' }, options.workerNodeArgs)),
    ]);
    return {
      url: String(api.ready['url']),
      redisUrl,
      redisPid: redis?.pid,
      api: api.service,
      workers: workers.map(({ service }) => service),
      dispatcher: dispatcher?.service,
      autoscaler: autoscaler?.service,
      workerUrls: workers.map(metricsUrl),
      dispatcherUrl: dispatcher && metricsUrl(dispatcher),
      autoscalerUrl: autoscaler && metricsUrl(autoscaler),
      stop,
      kill: () => { for (const service of services) service.kill(); },
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function metricsUrl({ ready }: { readonly ready: Readonly<Record<string, unknown>> }): string {
  return `http://127.0.0.1:${String(ready['metricsPort'])}`;
}

/** Our own environment, but for what is meant for another Redis than a private one. */
function inherited({ withPrivateRedis }: { readonly withPrivateRedis: boolean }): Record<string, string | undefined> {
  // oxlint-disable-next-line node/no-process-env -- passed on, not read
  const env = { ...process.env };
  if (withPrivateRedis) for (const name of Object.keys(env)) if (name.startsWith('MILLRACE_REDIS_TLS')) delete env[name];
  return env;
}
