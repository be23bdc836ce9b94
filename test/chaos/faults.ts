// The faults. Each strikes a stage under load and says from which moments on its recovery counts.
import type { Service } from '@millrace/process';
import { lockMs } from '@millrace/queue';
import type { Bulk } from './bulk.ts';
import type { Cases } from './cases.ts';
import { eventLoopOf } from './event-loop.ts';
import type { History } from './history.ts';
import { seconds, type Stage } from './stage.ts';

export interface Fault {
  readonly name: string;
  readonly title: string;
  /** It lasts too long for the short form. */
  readonly longOnly?: boolean;
  /** API and workers reach Redis through the proxy. */
  readonly proxied?: boolean;
  /** How far the workers' clocks are off, in turn. */
  readonly clocksOffMs?: readonly number[];
  /** At each of its moments one process ends, and is started again. */
  readonly endsProcesses?: boolean;
  /** There is somebody who is told of results. In the long form there always is. */
  readonly told?: boolean;
  /** Backfills can be run. */
  readonly bulk?: boolean;
  /** Requests a second, where it is not the usual load. */
  readonly perSecond?: number;
  /** It takes workers away in the middle of their work, so `worker-crashed` is a right end. */
  readonly takesWorkers?: boolean;
  /**
   * What recovery is. `served`: a new prediction gets its result. `rerun`: everything accepted before runs (again). `told`:
   * the end that waited the longest for it is told. Without it the fault is no interruption.
   */
  readonly recovery?: 'served' | 'rerun' | 'told';
  strike(stage: Stage, form: Form): Promise<number[]>;
}

export interface Form {
  readonly long: boolean;
  readonly random: () => number;
  readonly cases: Cases;
}

const times = (count: number) => Array.from({ length: count }).keys();

/** Redis is killed, is away and comes back. */
function redisAway(awaySeconds: number, longOnly = false): Fault {
  return {
    name: `redis-${awaySeconds}s`,
    title: `Redis: \`kill -9\`, ${awaySeconds} s down, back with its append-only file`,
    longOnly,
    recovery: 'served',
    async strike({ redis, history }) {
      const over = history.disrupt();
      await redis.kill();
      await seconds(awaySeconds);
      await redis.revive();
      over();
      return [performance.now()];
    },
  };
}

/** SIGKILL; resolves when it is there again. */
async function kill({ name, pid }: Service, { history }: Stage): Promise<number> {
  const over = history.disrupt(name);
  process.kill(pid as number, 'SIGKILL');
  const at = performance.now();
  await history.next(name, `${name.replace(/ \d+$/, '')} is ready`);
  over();
  return at;
}

async function killRedis({ redis, history }: Stage): Promise<void> {
  const over = history.disrupt();
  await redis.kill();
  await seconds(0.5);
  await redis.revive();
  over();
}

/** A worker stands still for longer than its locks last, and then goes on. */
function workerStill(name: string, title: string, prepare: (worker: Service, history: History) => Promise<() => Promise<void>>): Fault {
  return {
    name, title, longOnly: true, takesWorkers: true, recovery: 'rerun',
    async strike(stage, { random }) {
      const worker = stage.drawWorker(random);
      // It may have been killed just before, and be another process then.
      await stage.untilBusy(worker);
      const still = await prepare(worker, stage.history);
      await stage.untilBusy(worker);
      const over = stage.history.disrupt(worker.name);
      const from = performance.now();
      await still();
      over();
      return [from];
    },
  };
}

/** Connections to Redis break, a few times a second. */
function connectionsBroken(name: string, title: string, breakSome: (stage: Stage) => Promise<unknown>): Fault {
  return {
    name, title, proxied: true, recovery: 'served',
    async strike(stage, { long, random }) {
      const over = stage.history.disrupt();
      for (const _ of times(long ? 80 : 8)) {
        await seconds(0.5 * random());
        await breakSome(stage);
      }
      over();
      return [performance.now()];
    },
  };
}

/** Redis refuses writes for a while. */
function writesRefused(name: string, title: string, refuse: (stage: Stage) => Promise<unknown>, allow: (stage: Stage) => Promise<unknown>): Fault {
  return {
    name, title, recovery: 'served',
    async strike(stage, { long }) {
      const over = stage.history.disrupt();
      await refuse(stage);
      await seconds(long ? 20 : 2);
      await allow(stage);
      over();
      return [performance.now()];
    },
  };
}

export const faults: readonly Fault[] = [
  {
    name: 'none',
    title: 'none',
    longOnly: true,
    async strike() {
      await seconds(10);
      return [];
    },
  },
  {
    name: 'worker-killed',
    title: '`kill -9` of a random worker, in a micro-batch, every 3 s',
    takesWorkers: true,
    endsProcesses: true,
    recovery: 'rerun',
    async strike(stage, { long, random }) {
      const kills: number[] = [];
      for (const _ of times(long ? 20 : 2)) {
        await seconds(long ? 3 : 1);
        const worker = stage.drawWorker(random);
        await stage.untilBusy(worker);
        const over = stage.history.disrupt(worker.name);
        process.kill(worker.pid as number, 'SIGKILL');
        kills.push(performance.now());
        await stage.history.next(worker.name, 'ended unexpectedly');
        over();
      }
      return kills;
    },
  },
  {
    name: 'api-killed',
    title: '`kill -9` of the API',
    endsProcesses: true,
    recovery: 'served',
    async strike({ api, history }, { long }) {
      const kills: number[] = [];
      for (const _ of times(long ? 5 : 1)) {
        process.kill(api.pid as number, 'SIGKILL');
        kills.push(performance.now());
        await history.next('api', 'api is ready');
        await seconds(3);
      }
      return kills;
    },
  },
  workerStill('worker-frozen', 'SIGSTOP of a worker for three lock times, then SIGCONT', async ({ pid }) => async () => {
    process.kill(pid as number, 'SIGSTOP');
    await seconds(3 * lockMs / 1000);
    process.kill(pid as number, 'SIGCONT');
  }),
  workerStill('loop-blocked', 'event loop of a worker blocked for two lock times', async (worker, history) => {
    const block = await eventLoopOf(worker, history);
    return () => block(2 * lockMs);
  }),
  redisAway(1),
  redisAway(12, true),
  redisAway(60, true),
  connectionsBroken('connections-killed', '`CLIENT KILL` of all connections, several times a second', ({ redis: { admin } }) =>
    Promise.all([admin.call('CLIENT', 'KILL', 'TYPE', 'normal'), admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')])),
  connectionsBroken('connections-cut', 'connections cut in the middle of a command or answer', async ({ proxy }) => proxy.cut()),
  {
    name: 'latency',
    title: '300 ms of latency before Redis',
    proxied: true,
    recovery: 'served',
    async strike({ proxy }, { long }) {
      proxy.latencyMs = 300;
      await seconds(long ? 30 : 3);
      proxy.latencyMs = 0;
      return [performance.now()];
    },
  },
  {
    name: 'half-open',
    title: 'connections half-open for good, new ones too for 10 s',
    proxied: true,
    recovery: 'served',
    async strike({ proxy, history }, { long }) {
      const over = history.disrupt();
      proxy.silent = true;
      proxy.halfOpen();
      await seconds(long ? 10 : 1);
      proxy.silent = false;
      over();
      return [performance.now()];
    },
  },
  {
    name: 'clock-off',
    title: 'clocks of two workers off, by +10 and −10 minutes',
    clocksOffMs: [600_000, -600_000],
    async strike(_stage, { long }) {
      await seconds(long ? 20 : 2);
      return [];
    },
  },
  {
    name: 'sigterm',
    title: 'SIGTERM of workers in micro-batches, 100 times',
    endsProcesses: true,
    recovery: 'rerun',
    async strike(stage, { long }) {
      const stops: number[] = [];
      let left = long ? 100 : 2;
      // One goes on: the queue must not outgrow the trial.
      await Promise.all(stage.workers.slice(1).map(async (worker) => {
        while (left-- > 0) {
          await stage.untilBusy(worker);
          process.kill(worker.pid as number, 'SIGTERM');
          stops.push(performance.now());
          // Not killed after its grace period.
          await stage.history.next(worker.name, 'stopped');
          await stage.history.next(worker.name, 'worker is ready');
        }
      }));
      return stops;
    },
  },
  {
    name: 'told',
    title: '`kill -9` of dispatcher, receiver, workers and Redis, each at random moments',
    told: true,
    takesWorkers: true,
    endsProcesses: true,
    recovery: 'told',
    async strike(stage, { long, random }) {
      const { dispatcher, audience } = stage;
      const kills: number[] = [];
      const end = async (service: Service) => { kills.push(await kill(service, stage)); };
      // Drawn before anything happens, so that it is up to the seed alone.
      const draw = (strike: (worker: Service) => Promise<void>) => Array.from({ length: long ? 10 : 1 }, () => ({ pause: (long ? 10 : 4) * random(), worker: stage.drawWorker(random), strike }));
      const plans = [
        draw(() => end(dispatcher)),
        draw(() => end(audience?.receiver as Service)),
        draw((worker) => end(worker)),
        draw(() => killRedis(stage)),
      ];
      await Promise.all(plans.map(async (plan) => {
        for (const { pause, worker, strike } of plan) {
          await seconds(pause);
          await strike(worker);
        }
      }));
      return kills;
    },
  },
  {
    name: 'backfill',
    title: '`kill -9` of workers, coordinator and Redis during a backfill, whose output is then complete and in order',
    bulk: true,
    takesWorkers: true,
    endsProcesses: true,
    recovery: 'rerun',
    async strike(stage, { long, random, cases }) {
      // Chunks are so small that workers, who are queued some ahead, do not come to the end while nobody coordinates.
      // Beside the load a million rows of the heavy model would take an hour.
      const [model, rows, chunkRows] = long ? ['digits', 1_000_000, 1000] as const : ['digits-deep', 15_000, 250] as const;
      const backfill = await (stage.bulk as Bulk).begin(stage.url, { model, cases: cases.of(model), rows, chunkRows });
      const kills: number[] = [];
      const strikes = [async () => { kills.push(await kill(stage.drawWorker(random), stage)); }, async () => { kills.push(await kill(stage.dispatcher, stage)); }, () => killRedis(stage)];
      const first = Math.floor(strikes.length * random());
      const order = Array.from({ length: long ? 10 : 1 }, () => [...strikes.slice(first), ...strikes.slice(0, first)]).flat();
      for (const [place, strike] of order.entries()) {
        // A coordinator says every second how far it is: what is left at the last kill takes longer.
        if (!await backfill.untilDone(0.8 * (place + 1) / (order.length + 1))) throw new Error(`the backfill ended before ${order.length - place} of the kills`);
        await strike();
      }
      await backfill.check();
      return kills;
    },
  },
  writesRefused('memory-limit', 'Redis at its memory limit', async ({ redis: { admin } }) => {
    const used = Number(/used_memory:(\d+)/.exec(await admin.info('memory'))?.[1]);
    await admin.config('SET', 'maxmemory', String(used + 100_000));
  }, ({ redis: { admin } }) => admin.config('SET', 'maxmemory', '0')),
  writesRefused('disk-full', 'no room on the disk for the append-only file', ({ redis }) => redis.fillDisk(100_000), ({ redis }) => redis.freeDisk()),
];
