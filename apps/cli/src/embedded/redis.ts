// A private redis-server child: loopback only, on a free port, gone with its owner.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { lockFolder, type HeldFolder } from './folder-lock.ts';
import { spawnRedis, type RedisChild } from './redis-child.ts';
import { exchange } from './resp.ts';

export interface RedisOptions {
  /** Path of a redis-server or valkey-server, 6.2 or newer. */
  readonly binary: string;
  /** Where the append-only file is kept across restarts; made where it is missing. Without it nothing is kept. */
  readonly dataDir?: string | undefined;
  /** Further arguments of redis-server; they win over ours. */
  readonly args?: readonly string[] | undefined;
  /** Takes each line that the server writes. */
  readonly log?: ((line: string) => void) | undefined;
  /** Gives up a start under way. */
  readonly signal?: AbortSignal | undefined;
}

export interface RunningRedis {
  readonly url: string;
  readonly pid: number;
  /** Ends the server and resolves once it is gone, its append-only file complete. Idempotent. */
  stop(): Promise<void>;
}

// The server answers LOADING while it reads its append-only file: 17 s for 136 MB of 4 million keys, on two cores.
const startLimitMs = 30_000;
const probeEveryMs = 20;
const portAttempts = 5;

/**
 * Starts a redis-server and resolves once it serves. Throws where another one uses the data folder, and, with the
 * server's last log lines, where it ends early or does not serve within 30 s.
 */
export async function startRedis(options: RedisOptions): Promise<RunningRedis> {
  const folder = options.dataDir === undefined ? temporaryFolder() : await lockFolder(options.dataDir);
  try {
    for (let attempt = 1; ; attempt++) {
      const port = await freePort();
      const child = await spawnRedis(options.binary, redisArgs(port, folder, options), options.log);
      folder.handTo(child.pid);
      if (await isServing(port, child, options.signal)) return running(port, child, folder);

      const ended = child.ended.aborted;
      await child.stop();
      options.signal?.throwIfAborted();
      // Between our look for a free port and the server's bind another process can take it.
      if (child.lastLines().includes('Address already in use') && attempt < portAttempts) continue;
      const fault = ended ? 'redis-server ended at its start' : `redis-server did not serve within ${startLimitMs} ms`;
      throw new Error(`${fault}; its last lines:\n${child.lastLines()}`);
    }
  } catch (error) {
    folder.release();
    throw error;
  }
}

function running(port: number, child: RedisChild, folder: HeldFolder): RunningRedis {
  let stopped: Promise<void> | undefined;
  return {
    url: `redis://127.0.0.1:${port}`,
    pid: child.pid,
    stop: () => (stopped ??= child.stop().finally(() => folder.release())),
  };
}

function temporaryFolder(): HeldFolder {
  const place = mkdtempSync(path.join(tmpdir(), 'millrace-redis-'));
  return { place, handTo: () => {}, release: () => rmSync(place, { recursive: true, force: true }) };
}

function redisArgs(port: number, folder: HeldFolder, { dataDir, args = [] }: RedisOptions): string[] {
  const network = ['--bind', '127.0.0.1', '--port', String(port)];
  const memory = ['--maxmemory-policy', 'noeviction'];
  const appendOnly = dataDir === undefined ? ['no'] : ['yes', '--appendfsync', 'everysec'];
  const disk = ['--dir', folder.place, '--save', '', '--appendonly', ...appendOnly];
  return [...network, '--daemonize', 'no', ...memory, ...disk, ...args];
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** False where the server ended, `signal` fired or the time is up before it served. */
async function isServing(port: number, child: RedisChild, signal: AbortSignal | undefined): Promise<boolean> {
  const callers = signal === undefined ? [] : [signal];
  const giveUp = AbortSignal.any([AbortSignal.timeout(startLimitMs), child.ended, ...callers]);
  while (!giveUp.aborted) {
    if (await answers(port, child.pid, giveUp)) return true;
    await delay(probeEveryMs);
  }
  return false;
}

/** Whether the server on this port is up and the process `pid`: after a lost race for the port it is a stranger. */
async function answers(port: number, pid: number, signal: AbortSignal): Promise<boolean> {
  try {
    const pong = await exchange(port, ['PING'], signal);
    if (!pong.startsWith('+PONG')) return false;
    const info = await exchange(port, ['INFO', 'server'], signal);
    return info.includes(`\nprocess_id:${pid}\r\n`);
  } catch {
    return false;
  }
}
