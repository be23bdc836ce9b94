// Redis servers for tests: each with the user that production has, whose rights are in deploy/redis/users.acl.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import { GenericContainer } from 'testcontainers';
import { findRedisServer } from '../../apps/cli/bin/redis-server.mjs';
import { startRedis } from '../../apps/cli/src/embedded/redis.ts';

export interface TestRedis {
  /** As the user `millrace`. */
  readonly url: string;
  /** As the default user, who may do everything. */
  readonly adminUrl: string;
  /** Undefined in a container. */
  readonly pid: number | undefined;
  /** Ends it. Rejects where it had to deny the user anything: deploy/redis/users.acl would lack something. */
  stop(): Promise<void>;
}

const acl = readFileSync(path.join(fileURLToPath(new URL('../..', import.meta.url)), 'deploy/redis/users.acl'), 'utf8');
const userLine = /^user (millrace .*)$/m.exec(acl)?.[1] as string;

/** Arguments of a redis-server that knows the user. The default user stays, to form clusters and to look inside. */
export const userArgs: readonly string[] = ['--user', ...userLine.split(' ')];
export const login = `millrace:${/ >(\S+)/.exec(userLine)?.[1]}`;

/** Starts a Redis in a container where a Docker engine answers and none is asked to be private, else a private one. */
export async function startTestRedis({ privately }: { readonly privately: boolean }): Promise<TestRedis> {
  const args = ['--appendonly', 'yes', ...userArgs];
  if (!privately && dockerAnswers()) {
    const container = await new GenericContainer('redis:7.2-alpine').withCommand(['redis-server', ...args]).withExposedPorts(6379).start();
    const place = `${container.getHost()}:${container.getMappedPort(6379)}`;
    return testRedis(`redis://${place}`, undefined, () => container.stop());
  }
  const redis = await startRedis({ binary: redisServer(), args });
  return testRedis(redis.url, redis.pid, () => redis.stop());
}

function testRedis(adminUrl: string, pid: number | undefined, end: () => Promise<unknown>): TestRedis {
  const stop = async () => {
    const denied = await denials([adminUrl]);
    await end();
    expectNone(denied);
  };
  return { url: adminUrl.replace('//', `//${login}@`), adminUrl, pid, stop };
}

/** What servers have denied: https://redis.io/docs/latest/commands/acl-log/. One that has been killed tells nothing. */
export async function denials(adminUrls: readonly string[]): Promise<string[]> {
  const denied = await Promise.all(adminUrls.map(async (url) => {
    const redis = new Redis(url, { retryStrategy: null, lazyConnect: true, replyMapping: 'legacy' });
    redis.on('error', () => { /* the command rejects too */ });
    const entries = await redis.acl('LOG').catch(() => []) as string[][];
    redis.disconnect();
    return entries.map((entry) => entry[entry.indexOf('object') + 1] as string);
  }));
  return denied.flat();
}

export function expectNone(denied: readonly string[]): void {
  if (denied.length > 0) throw new Error(`deploy/redis/users.acl does not allow ${denied.join(', ')}`);
}

/** The redis-server or valkey-server to test with. */
export function redisServer(): string {
  const found = findRedisServer();
  if (found === undefined) throw new Error('there is no redis-server here: run `npm run setup`, or set MILLRACE_REDIS_SERVER');
  return found;
}

function dockerAnswers(): boolean {
  try {
    execFileSync('docker', ['info'], { stdio: 'ignore', timeout: 5000 });
    return true;
  } catch {
    return false;
  }
}
