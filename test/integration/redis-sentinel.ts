// A Redis master with a replica and three sentinels on loopback.
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Redis } from 'ioredis';
import { type RunningRedis, startRedis } from '../../apps/cli/src/embedded/redis.ts';
import { type RedisChild, spawnRedis } from '../../apps/cli/src/embedded/redis-child.ts';
import { denials, expectNone, login, redisServer, userArgs } from './redis-rig.ts';
import { untilReplicated } from './replication.ts';
import { freePort, until } from './rig.ts';

export interface WatchedRedis {
  readonly url: string;
  /** The process that the sentinels hold for the master. */
  masterPid(): Promise<number>;
  /** Resolves when the replica has all that the master has acknowledged. */
  replicated(): Promise<void>;
  /** Resolves when the sentinels hold another one than this process for the master. */
  failedOver(fromPid: number): Promise<void>;
  /** Starts the server that was killed; the sentinels make a replica of it. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts them and resolves once the sentinels know each other and the replica. */
export async function startWatchedRedis(): Promise<WatchedRedis> {
  const folder = await mkdtemp(path.join(tmpdir(), 'millrace-sentinel-'));
  const [ports, sentinelPorts] = [[await freePort(), await freePort()], [await freePort(), await freePort(), await freePort()]];
  const start = (place: number, ...args: string[]) => startRedis({
    binary: redisServer(), dataDir: path.join(folder, String(place)), args: ['--port', String(ports[place]), '--bind', '127.0.0.1', ...userArgs, ...args],
  });
  const servers: RunningRedis[] = [await start(0), await start(1, '--replicaof', '127.0.0.1', String(ports[0]))];
  const sentinels = await Promise.all(sentinelPorts.map((port) => startSentinel(path.join(folder, `${port}.conf`), port, ports[0] as number)));
  const ask = new Redis(sentinelPorts[0] as number, { replyMapping: 'legacy' });
  ask.on('error', () => { /* it is not up yet */ });
  const masterPort = async () => Number((await ask.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', 'main') as string[])[1]);
  const pidAt = (port: number) => servers[ports.indexOf(port)]?.pid as number;
  await until(async () => /slaves=1,sentinels=3/.test(await ask.info()), 'the sentinels');
  return {
    url: `redis+sentinel://${login}@${sentinelPorts.map((port) => `127.0.0.1:${port}`).join(',')}/main`,
    masterPid: async () => pidAt(await masterPort()),
    replicated: async () => untilReplicated(await masterPort()),
    failedOver: async (fromPid) => { await until(async () => pidAt(await masterPort()) !== fromPid, 'the failover'); },
    restart: async () => {
      const killed = servers.findIndex(({ pid }) => !isAlive(pid));
      await servers[killed]?.stop();
      servers[killed] = await start(killed);
      const server = new Redis(ports[killed] as number);
      await until(async () => /role:slave[^]*master_link_status:up/.test(await server.info('replication')), 'a replica of it');
      server.disconnect();
    },
    stop: async () => {
      ask.disconnect();
      const denied = await denials(ports.map((port) => `redis://127.0.0.1:${port}`));
      await Promise.all([...sentinels, ...servers].map((one) => one.stop()));
      await rm(folder, { recursive: true, force: true });
      expectNone(denied);
    },
  };
}

/** Sentinels write into their configuration: https://redis.io/docs/latest/operate/oss_and_stack/management/sentinel/ */
async function startSentinel(file: string, port: number, masterPort: number): Promise<RedisChild> {
  await writeFile(file, [
    `port ${port}`, 'bind 127.0.0.1', `sentinel monitor main 127.0.0.1 ${masterPort} 2`,
    'sentinel down-after-milliseconds main 1000', 'sentinel failover-timeout main 5000', '',
  ].join('\n'));
  return spawnRedis(redisServer(), [file, '--sentinel']);
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
