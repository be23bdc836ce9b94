// Redis connections by role. Reconnecting never gives up and never waits long: BullMQ's own back-off reaches 20 s.
import type { Writable } from 'node:stream';
import { MillraceError } from '@millrace/protocol';
import { Redis } from 'ioredis';

export type { Redis } from 'ioredis';

/** `producer` fails fast so that callers get a 503; `worker` waits for Redis to return; `blocking` is one that reads with BLOCK. */
export type Role = 'producer' | 'worker' | 'blocking';

const longestReconnectMs = 1000;
const producerTimeoutMs = 5_000;
/**
 * A connection that owes an answer for this long is dead, though nobody has closed it, and is made anew. BullMQ's reads
 * block for up to 10 s.
 */
const silenceMs = { producer: producerTimeoutMs, worker: 11_000, blocking: 11_000 } as const;

/** Opens a connection; it keeps reconnecting until `disconnect`. `onError` hears of every failure to connect. */
export function connect(url: string, role: Role, onError: (error: Error) => void): Redis {
  const redis = new Redis(url, {
    connectionName: `millrace-${role}`,
    retryStrategy: (attempt) => Math.min(50 * attempt, longestReconnectMs),
    socketTimeout: silenceMs[role],
    ...(role === 'producer'
      ? { enableOfflineQueue: false, maxRetriesPerRequest: 1, commandTimeout: producerTimeoutMs }
      : { maxRetriesPerRequest: null }),
  });
  redis.on('error', onError);
  redis.on('connect', () => writeOnceATurn(redis.stream));
  return redis;
}

/**
 * Commands of one turn of the event loop go out in one system call. On loopback a write costs more than the command
 * itself, and Redis answers what it reads together with one write too (docs/decisions/0003).
 */
function writeOnceATurn(stream: Writable): void {
  const write = stream.write.bind(stream);
  let corked = false;
  stream.write = ((...args: Parameters<Writable['write']>) => {
    if (!corked) {
      corked = true;
      stream.cork();
      setImmediate(() => {
        corked = false;
        stream.uncork();
      });
    }
    return write(...args);
  }) as Writable['write'];
}

/** Waits until the connection answers; rejects with `queue-unavailable` after `timeoutMs`. */
export async function untilReady(redis: Redis, timeoutMs: number): Promise<void> {
  if (redis.status === 'ready') return;
  await new Promise<void>((resolve, reject) => {
    const timer = setTimeout(() => {
      redis.off('ready', onReady);
      reject(new MillraceError('queue-unavailable', `Redis did not answer within ${timeoutMs} ms`));
    }, timeoutMs);
    const onReady = () => {
      clearTimeout(timer);
      resolve();
    };
    redis.once('ready', onReady);
  });
}

/** Turns what ioredis and BullMQ reject with, while Redis is away, into the catalogue's `queue-unavailable`. */
export function asQueueUnavailable(error: unknown, detail = 'Redis cannot be reached'): MillraceError {
  if (error instanceof MillraceError) return error;
  return new MillraceError('queue-unavailable', detail, { cause: error, retryAfterSeconds: 2 });
}
