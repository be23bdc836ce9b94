// A Redis with an append-only file that can be killed and comes back at the same address.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { type RedisChild, spawnRedis } from '../../apps/cli/src/embedded/redis-child.ts';
import { freePort } from '../integration/free-port.ts';
import { until } from '../integration/until.ts';

/** A file that has reached its size limit gives an error and not a signal, so a limit on files acts as a full disk. */
const ignoringFileLimit = ['-c', 'trap "" XFSZ; exec "$0" "$@"'];

export class ChaosRedis {
  readonly port: number;
  /** Reconnects at once, so that its next answer tells when Redis is back. */
  readonly admin: Redis;
  readonly #binary: string;
  readonly #folder: string;
  #child: RedisChild;

  private constructor(binary: string, port: number, folder: string, child: RedisChild) {
    this.#binary = binary;
    this.port = port;
    this.#folder = folder;
    this.#child = child;
    this.admin = new Redis(port, '127.0.0.1', { retryStrategy: () => 10, maxRetriesPerRequest: null });
    this.admin.on('error', () => { /* it is meant to be away at times */ });
  }

  static async start(binary: string): Promise<ChaosRedis> {
    const port = await freePort();
    const folder = await mkdtemp(path.join(tmpdir(), 'millrace-chaos-'));
    const redis = new ChaosRedis(binary, port, folder, await spawn(binary, port, folder));
    await redis.admin.ping();
    return redis;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** SIGKILL, and resolves once it is gone. */
  async kill(): Promise<void> {
    const { ended, pid } = this.#child;
    process.kill(pid, 'SIGKILL');
    if (!ended.aborted) await once(ended, 'abort');
  }

  /** Starts it again; resolves once it answers. Throws where it does not come up. */
  async revive(): Promise<void> {
    this.#child = await spawn(this.#binary, this.port, this.#folder);
    const child = this.#child;
    const died = once(child.ended, 'abort').then(() => { throw new Error(`Redis does not start again: ${child.lastLines()}`); });
    await Promise.race([this.admin.ping(), died]);
  }

  /** The disk is full after so many more bytes of the append-only file. */
  async fillDisk(roomBytes: number): Promise<void> {
    const files = await readdir(this.#folder, { recursive: true });
    const sizes = await Promise.all(files.map(async (file) => (await stat(path.join(this.#folder, file))).size));
    await this.#limitFiles(`${Math.max(...sizes) + roomBytes}:unlimited`);
  }

  /**
   * As docs/05-operations.md has it: Redis 7.0.15 leaves a hole in a file that it has begun by a rewrite, and would not start
   * with it again.
   */
  async freeDisk(): Promise<void> {
    await this.#limitFiles('unlimited');
    await this.admin.bgrewriteaof();
    const rewriting = async () => /aof_rewrite_(in_progress|scheduled):1/.test(await this.admin.info('persistence'));
    await until(async () => !await rewriting(), 'the append-only file to be rewritten');
  }

  async stop(): Promise<void> {
    this.admin.disconnect();
    await this.#child.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #limitFiles(limit: string): Promise<void> {
    await promisify(execFile)('prlimit', ['--pid', String(this.#child.pid), `--fsize=${limit}`]);
  }
}

function spawn(binary: string, port: number, folder: string): Promise<RedisChild> {
  return spawnRedis('sh', [
    ...ignoringFileLimit, binary, '--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '',
    '--appendonly', 'yes', '--appendfsync', 'everysec', '--maxmemory-policy', 'noeviction',
  ]);
}
