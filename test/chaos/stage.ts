// The processes that a fault strikes: Redis, an API and workers, and a dispatcher and a receiver where somebody is told of
// results. Each is started again when it dies.
import { setTimeout as delay } from 'node:timers/promises';
import { Service, type ServiceLog } from '@millrace/process';
import { freePort } from '../integration/free-port.ts';
import { Audience } from './audience.ts';
import { Bulk } from './bulk.ts';
import { History } from './history.ts';
import { Proxy } from './proxy.ts';
import { ChaosRedis } from './redis.ts';

export interface StageOptions {
  readonly redisServer: string;
  readonly models: string;
  /** Whether API and workers reach Redis through the proxy. */
  readonly proxied: boolean;
  readonly workers: number;
  /** Whether there are a dispatcher and a receiver. */
  readonly told: boolean;
  /** Whether backfills can be run; then there is a dispatcher too. */
  readonly bulk: boolean;
  /** How far their clocks are off, in turn. */
  readonly clocksOffMs: readonly number[];
  /** Takes what the processes log, but for their micro-batches. */
  readonly onLog: ServiceLog;
}

/** What the processes stand on. */
interface Ground {
  readonly redis: ChaosRedis;
  readonly proxy: Proxy;
  /** Of the API. */
  readonly port: number;
  readonly bulk: Bulk | undefined;
}

/** Enough for a receiver that is struck time and again. */
const retrySeconds = '1,1,2,2,5,5,5,10,10,10,20,20,20';

const sourceOf = (app: string) => new URL(`../../apps/${app}/src/main.ts`, import.meta.url).pathname;

export class Stage {
  readonly url: string;
  readonly redis: ChaosRedis;
  readonly proxy: Proxy;
  readonly api: Service;
  readonly workers: readonly Service[];
  readonly dispatcher: Service;
  readonly history: History;
  readonly bulk: Bulk | undefined;
  #audience: Audience | undefined;

  private constructor({ redis, proxy, port, bulk }: Ground, { models, proxied, workers, clocksOffMs, onLog }: StageOptions) {
    this.history = new History(onLog);
    const env = { REDIS_URL: proxied ? proxy.url : redis.url, MILLRACE_MODELS: models, MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8', ...bulk?.env };
    const { hear } = this.history;
    this.redis = redis;
    this.proxy = proxy;
    this.bulk = bulk;
    this.url = `http://127.0.0.1:${port}`;
    const service = (name: string, app: string, more: Record<string, string>, nodeArgs: readonly string[] = []) => new Service({
      name, args: [...nodeArgs, sourceOf(app)], env: { ...process.env, ...env, ...more }, readyMessage: `${app} is ready`, onLog: hear,
    });
    this.api = service('api', 'api', { MILLRACE_PORT: String(port) });
    this.workers = Array.from({ length: workers }, (_, index) => {
      // SIGUSR1 opens the inspector: at a free port, for there are several workers.
      const nodeArgs = ['--inspect-port=127.0.0.1:0', ...clockOff(clocksOffMs[index] ?? 0)];
      return service(`worker ${index + 1}`, 'worker', { MILLRACE_METRICS_PORT: '0', MILLRACE_LOG_LEVEL: 'debug' }, nodeArgs);
    });
    this.dispatcher = service('dispatcher', 'dispatcher', { MILLRACE_METRICS_PORT: '0', MILLRACE_WEBHOOK_RETRY_SECONDS: retrySeconds });
  }

  /** Resolves once the API serves, every worker claims and everybody who is told is there. */
  static async start(options: StageOptions): Promise<Stage> {
    const redis = await ChaosRedis.start(options.redisServer);
    const stage = new Stage({ redis, proxy: await Proxy.start(redis.port), port: await freePort(), bulk: options.bulk ? await Bulk.open() : undefined }, options);
    try {
      await Promise.all([
        stage.api.start(), ...stage.workers.map((worker) => worker.start()), (options.told || options.bulk) && stage.dispatcher.start(),
      ]);
      if (options.told) stage.#audience = await Audience.start(stage.url, stage.history.hear);
    } catch (error) {
      await stage.stop();
      throw error;
    }
    return stage;
  }

  /** Those who are told; undefined where nobody is. */
  get audience(): Audience | undefined {
    return this.#audience;
  }

  /** The worker that the seed points at. */
  drawWorker(random: () => number): Service {
    return this.workers[Math.floor(random() * this.workers.length)] as Service;
  }

  /** Resolves when the worker has just begun a heavy micro-batch. */
  async untilBusy({ name }: Service): Promise<void> {
    await this.history.next(name, 'micro-batch runs', 'digits-deep');
  }

  async stop(): Promise<void> {
    await Promise.all([this.api, this.dispatcher, ...this.workers].map((service) => service.stop()));
    await this.#audience?.stop();
    this.proxy.stop();
    await this.redis.stop();
    await this.bulk?.close();
  }
}

/** Node arguments that set a process's clock so far off, in all that it reads of `Date`. */
function clockOff(ms: number): string[] {
  if (ms === 0) return [];
  const source = `
    const now = Date.now.bind(Date);
    globalThis.Date = class extends Date {
      constructor(...args) { super(...(args.length === 0 ? [now() + ${ms}] : args)); }
      static now() { return now() + ${ms}; }
    };`;
  return [`--import=data:text/javascript,${encodeURIComponent(source)}`];
}

/** Waits inside the seeded story of a fault. */
export const seconds = (count: number): Promise<void> => delay(1000 * count);
