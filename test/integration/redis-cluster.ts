// A Redis Cluster of three masters and a replica of the first one on loopback, whose nodes can be killed and started again.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Redis } from 'ioredis';
import { type RunningRedis, startRedis } from '../../apps/cli/src/embedded/redis.ts';
import { denials, expectNone, login, redisServer, userArgs } from './redis-rig.ts';
import { untilReplicated } from './replication.ts';
import { freePort, until } from './rig.ts';

export interface RedisCluster {
  readonly url: string;
  /** Of the processes: the masters in the order of their slots, then the replica. */
  readonly pids: readonly number[];
  /** SIGKILL; resolves when the process is gone. */
  kill(place: number): Promise<void>;
  /** Starts a killed one again on what it has on disk. */
  restart(place: number): Promise<void>;
  /** Resolves when the replica has all that the first master has acknowledged. */
  replicated(): Promise<void>;
  stop(): Promise<void>;
}

const slots = 16_384;
const masters = 3;

/** Starts the nodes and resolves once they are a cluster. A node that is lost takes only its own slots with it. */
export async function startCluster(): Promise<RedisCluster> {
  const folder = await mkdtemp(path.join(tmpdir(), 'millrace-cluster-'));
  const [ports, busPorts]: [number[], number[]] = [[], []];
  for (let place = 0; place <= masters; place++) {
    ports.push(await freePort());
    busPorts.push(await freePort());
  }
  const start = (place: number) => startRedis({
    binary: redisServer(),
    dataDir: path.join(folder, String(place)),
    args: [
      '--port', String(ports[place]), '--bind', '127.0.0.1', '--cluster-enabled', 'yes', '--cluster-port', String(busPorts[place]),
      '--cluster-node-timeout', '2000', '--cluster-require-full-coverage', 'no', ...userArgs,
    ],
  });
  const nodes: RunningRedis[] = [];
  for (const place of ports.keys()) nodes.push(await start(place));
  await form(ports, busPorts);
  return {
    url: `redis+cluster://${login}@${ports.map((port) => `127.0.0.1:${port}`).join(',')}`,
    get pids() { return nodes.map(({ pid }) => pid); },
    kill: async (place) => {
      process.kill(nodes[place]?.pid as number, 'SIGKILL');
      await nodes[place]?.stop();
    },
    restart: async (place) => { nodes[place] = await start(place); },
    replicated: () => untilReplicated(ports[0] as number),
    stop: async () => {
      const denied = await denials(ports.map((port) => `redis://127.0.0.1:${port}`));
      await Promise.all(nodes.map((node) => node.stop()));
      await rm(folder, { recursive: true, force: true });
      expectNone(denied);
    },
  };
}

/** What `redis-cli --cluster create` does: https://redis.io/docs/latest/operate/oss_and_stack/management/scaling/ */
async function form(ports: readonly number[], busPorts: readonly number[]): Promise<void> {
  const nodes = ports.map((port) => new Redis(port));
  const share = Math.ceil(slots / masters);
  for (const [place, node] of nodes.entries()) {
    if (place < masters) await node.cluster('ADDSLOTSRANGE', place * share, Math.min(slots, (place + 1) * share) - 1);
    await node.call('CLUSTER', 'MEET', '127.0.0.1', String(ports[0]), String(busPorts[0]));
  }
  const [first, replica] = [nodes[0], nodes.at(-1)] as [Redis, Redis];
  const id = await first.cluster('MYID');
  await until(() => replica.cluster('REPLICATE', id).catch(() => false), 'the replica');
  await until(async () => {
    const infos = await Promise.all(nodes.map((node) => node.cluster('INFO')));
    return infos.every((info) => info.includes('cluster_state:ok') && info.includes(`cluster_known_nodes:${nodes.length}`));
  }, 'the cluster');
  for (const node of nodes) node.disconnect();
}
