// The Redis servers at the start of a process: whether they answer, and whether they can be trusted with a queue.
import { MillraceError } from '@millrace/protocol';
import type { Redis } from './connection.ts';

/** Something by which a server may lose what was accepted. */
export interface Weakness {
  /** `host:port` or the socket's path. */
  readonly server: string;
  readonly problem: string;
}

const oldest = { major: 6, minor: 2 };

/** Waits until the connection answers; rejects with `queue-unavailable` after `timeoutMs`, or where waiting cannot help. */
export async function untilReady(redis: Redis, timeoutMs: number): Promise<void> {
  if (redis.status === 'ready') return;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let reason = '';
  const onError = (error: Error & { lastNodeError?: Error }) => {
    const { message } = error.lastNodeError ?? error;
    reason = `: ${message}`;
    if (isHopeless(error.lastNodeError ?? error)) reject(new MillraceError('queue-unavailable', `Redis cannot be used: ${message}`, { cause: error }));
  };
  const timer = setTimeout(() => reject(new MillraceError('queue-unavailable', `Redis did not answer within ${timeoutMs} ms${reason}`)), timeoutMs);
  redis.once('ready', resolve).on('error', onError);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    redis.off('ready', resolve).off('error', onError);
  }
}

/** A login or a certificate that is refused now will be refused again. */
function isHopeless(error: Error & { code?: string }): boolean {
  return /^(WRONGPASS|NOAUTH|NOPERM)/.test(error.message) || /CERT|ERR_TLS|ERR_SSL|ERR_OSSL/.test(error.code ?? '');
}

/** The server itself, or the masters of a cluster. */
export function mastersOf(redis: Redis): readonly Redis[] {
  return 'nodes' in redis ? (redis.nodes as (role: 'master') => Redis[])('master') : [redis];
}

/** Asks every server, every master of a cluster, for its set-up. Rejects with `queue-unavailable` where one cannot hold a queue. */
export async function findWeaknesses(redis: Redis): Promise<Weakness[]> {
  const found = await Promise.all(mastersOf(redis).map(async (server) => {
    const { path, host, port } = server.options;
    const name = path ?? `${host}:${port}`;
    const problems = await server.info().then((info) => judge(name, info), (error: Error) => [`it does not tell its set-up: ${error.message}`]);
    return problems.map((problem) => ({ server: name, problem }));
  }));
  return found.flat();
}

/** What is weak in the set-up that INFO tells: https://redis.io/docs/latest/commands/info/ */
export function judge(server: string, info: string): string[] {
  const field = (name: string) => new RegExp(`^${name}:(.*?)\r?$`, 'm').exec(info)?.[1];
  const [major = 0, minor = 0] = field('redis_version')?.split('.').map(Number) ?? [];
  if (major < oldest.major || (major === oldest.major && minor < oldest.minor)) {
    throw new MillraceError('queue-unavailable', `Redis at ${server} is version ${major}.${minor}, and ${oldest.major}.${oldest.minor} is the oldest that will do`);
  }
  const policy = field('maxmemory_policy');
  if (field('maxmemory') !== '0' && policy !== undefined && policy !== 'noeviction') {
    throw new MillraceError('queue-unavailable', `Redis at ${server} would throw accepted predictions away when its memory is full: its maxmemory-policy is ${policy} and must be noeviction`);
  }
  return [
    ...(policy === undefined ? ['it does not tell its maxmemory-policy, which must be noeviction'] : []),
    ...(field('aof_enabled') === '1' ? [] : ['its append-only file is off, so that a restart forgets what was accepted']),
  ];
}
