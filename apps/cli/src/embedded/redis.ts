// A private redis-server child: on a socket that only this user can open, gone with its owner.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { lockFolder } from './folder-lock.ts';
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
  /** Is called once where the start takes its time because the server loads what is in the data folder. */
  readonly onLoading?: (() => void) | undefined;
  /** Gives up a start under way. */
  readonly signal?: AbortSignal | undefined;
}

export interface RunningRedis {
  /** `unix://<path>`: on one machine a socket costs Redis and its clients less than TCP (docs/decisions/0003). */
  readonly url: string;
  readonly pid: number;
  /** Ends the server and resolves once it is gone, its append-only file complete. Idempotent. */
  stop(): Promise<void>;
}

/** Until it serves. While it reads its append-only file it answers LOADING (17 s for 136 MB of 4 million keys, on two cores), and has the time anew. */
const startLimitMs = 30_000;
const probeEveryMs = 20;

/**
 * Starts a redis-server and resolves once it serves, however long it loads its data folder. Throws where another one uses
 * the folder, and, with the server's last log lines, where it ends early, or neither serves nor loads for 30 s.
 */
export async function startRedis(options: RedisOptions): Promise<RunningRedis> {
  // A folder of its own keeps the socket's path short enough (108 bytes) and closed to other users.
  const own = mkdtempSync(path.join(tmpdir(), 'millrace-redis-'));
  const removeOwn = () => rmSync(own, { recursive: true, force: true });
  const held = options.dataDir === undefined ? undefined : await lockFolder(options.dataDir).catch((error: unknown) => {
    removeOwn();
    throw error;
  });
  const release = () => {
    if (held) rmSync(urlFile(held.place), { force: true });
    held?.release();
    removeOwn();
  };
  try {
    const socket = path.join(own, 'redis.sock');
    const child = await spawnRedis(options.binary, redisArgs(socket, held?.place, own, options.args), options.log);
    held?.handTo(child.pid);
    if (await isServing(socket, child, options)) {
      // For this user alone, like the socket itself.
      if (held) writeFileSync(urlFile(held.place), `unix://${socket}`, { mode: 0o600 });
      return running(socket, child, release);
    }

    const ended = child.ended.aborted;
    await child.stop();
    options.signal?.throwIfAborted();
    const fault = ended ? 'redis-server ended at its start' : `redis-server neither served nor loaded for ${startLimitMs} ms`;
    throw new Error(`${fault}; its last lines:\n${child.lastLines()}`);
  } catch (error) {
    release();
    throw error;
  }
}

/** The URL of the Redis that uses this data folder; undefined where there is none. One that was killed leaves its URL behind. */
export function redisUrlIn(dataDir: string): string | undefined {
  const file = urlFile(dataDir);
  return existsSync(file) ? readFileSync(file, 'utf8') : undefined;
}

function urlFile(dataDir: string): string {
  return path.join(dataDir, 'redis.url');
}

function running(socket: string, child: RedisChild, release: () => void): RunningRedis {
  let stopped: Promise<void> | undefined;
  return {
    url: `unix://${socket}`,
    pid: child.pid,
    stop: () => (stopped ??= child.stop().finally(release)),
  };
}

function redisArgs(socket: string, dataDir: string | undefined, own: string, args: readonly string[] = []): string[] {
  const network = ['--port', '0', '--unixsocket', socket, '--unixsocketperm', '700'];
  const memory = ['--maxmemory-policy', 'noeviction'];
  const appendOnly = dataDir === undefined ? ['no'] : ['yes', '--appendfsync', 'everysec'];
  const disk = ['--dir', dataDir ?? own, '--save', '', '--appendonly', ...appendOnly];
  return [...network, '--daemonize', 'no', ...memory, ...disk, ...args];
}

/** False where the server ended, `signal` fired or the time is up before it served. */
async function isServing(socket: string, child: RedisChild, { signal, onLoading }: RedisOptions): Promise<boolean> {
  const callers = signal === undefined ? [] : [signal];
  const giveUp = AbortSignal.any([child.ended, ...callers]);
  let until = performance.now() + startLimitMs;
  let isLoading = false;
  while (!giveUp.aborted && performance.now() < until) {
    const reply = await exchange(socket, ['PING'], AbortSignal.any([giveUp, AbortSignal.timeout(startLimitMs)])).catch(() => '');
    if (reply.startsWith('+PONG')) return true;
    if (reply.startsWith('-LOADING')) {
      if (!isLoading) onLoading?.();
      isLoading = true;
      until = performance.now() + startLimitMs;
    }
    await delay(probeEveryMs);
  }
  return false;
}
