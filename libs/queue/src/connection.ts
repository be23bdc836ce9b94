// Redis connections by role, to one server, a cluster, or a master behind sentinels. Reconnecting never gives up and never
// waits long: BullMQ's own back-off reaches 20 s.
import type { Writable } from 'node:stream';
import { MillraceError } from '@millrace/protocol';
import { Cluster, Redis as Connection, type RedisOptions, ReplyError } from 'ioredis';
import { tlsOf, type RedisSettings } from './redis-settings.ts';
import { parseRedisUrl, type RedisPlace, type Server } from './redis-url.ts';
import { type Scripts, scripts } from './scripts.ts';

/** A connection that knows our own commands. */
export type Redis = Connection & Scripts;

/** `producer` fails fast so that callers get a 503; the others wait for Redis to return. `blocking` is one that reads with BLOCK. */
export type Role = 'producer' | 'worker' | 'blocking' | 'subscriber';

type Options = Omit<RedisOptions, 'replyMapping'>;
type Place<Kind extends RedisPlace['kind']> = RedisPlace & { readonly kind: Kind };

const longestReconnectMs = 1000;
const producerTimeoutMs = 5_000;
/**
 * A server that is this late with its answers counts as gone, so that a new connection may find another master. Longer
 * than a producer's command may take, and than BullMQ and the reply reader wait in one read: 10 s and 5 s.
 * Not ioredis' `failoverDetector`: where it fires while a connection is being made, ioredis 6.0.0 ends that for good.
 */
const silenceMs = { producer: 6000, others: 12_000 };
const reconnectMs = (attempt: number) => Math.min(50 * attempt, longestReconnectMs);

/** How often a command looks for its node in a cluster before a producer gives it up, and how long apart. */
const producerRedirections = 8;
const redirectMs = { producer: 200, others: 500 };
/** A cluster whose nodes have changed places is seen by then, also where no command meets a moved slot. */
const clusterRefreshMs = 5000;
const sentinelTimeoutMs = 1000;

/**
 * Opens a connection; it keeps reconnecting until `disconnect`. `onError` hears of every failure to connect, and of every
 * command that this user may not give. Throws where the settings cannot be used.
 */
export function connect(settings: RedisSettings, role: Role, onError: (error: Error) => void): Redis {
  const place = parseRedisUrl(settings.redisUrl);
  if (!place.tls && settings.redisTlsCaFile !== undefined) throw new Error('There is a certificate authority for Redis, but REDIS_URL asks for no TLS: it would begin with rediss');
  const options: Options = {
    scripts: scripts(),
    ...place.login,
    ...(place.tls && { tls: tlsOf(settings) }),
    connectionName: `millrace-${role}`,
    // Redis before 7.2 cannot grant CLIENT SETINFO to a user.
    disableClientInfo: true,
    maxRetriesPerRequest: role === 'producer' ? 1 : null,
    // What a caller was told has failed must not be sent again on the next connection.
    ...(role === 'producer' && { commandTimeout: producerTimeoutMs, autoResendUnfulfilledCommands: false }),
    socketTimeout: role === 'producer' ? silenceMs.producer : silenceMs.others,
    reconnectOnError: (error) => onReplyError(error, onError),
  };
  const redis = place.kind === 'cluster' ? connectToCluster(place, role, options) : connectToServer(place, role, options);
  redis.on('error', onError);
  redis.on('node error', onError);
  return redis;
}

function connectToServer(place: Exclude<RedisPlace, Place<'cluster'>>, role: Role, options: Options): Redis {
  const redis = new Connection({ ...options, ...addressOf(place, options), db: place.db, enableOfflineQueue: role !== 'producer', retryStrategy: reconnectMs }) as Redis;
  redis.on('connect', () => writeOnceATurn(redis.stream));
  return redis;
}

function addressOf(place: Exclude<RedisPlace, Place<'cluster'>>, { tls }: Options): Options {
  switch (place.kind) {
    case 'server':
      return place.server;
    case 'socket':
      return { path: place.path };
    case 'sentinel':
      return {
        sentinels: [...place.servers], name: place.master, sentinelRetryStrategy: reconnectMs, sentinelCommandTimeout: sentinelTimeoutMs,
        ...(place.sentinelLogin.username !== undefined && { sentinelUsername: place.sentinelLogin.username }),
        ...(place.sentinelLogin.password !== undefined && { sentinelPassword: place.sentinelLogin.password }),
        ...(tls && { sentinelTLS: tls, enableTLSForSentinelMode: true }),
      };
  }
}

/** A cluster takes the commands and sends the events of a Redis, so it passes for one. */
function connectToCluster({ servers }: Place<'cluster'>, role: Role, options: Options): Redis {
  if (role === 'subscriber') return connectToAnyOf(servers, options);
  const retryMs = role === 'producer' ? redirectMs.producer : redirectMs.others;
  const cluster = new Cluster([...servers], {
    scripts: scripts(),
    redisOptions: options,
    enableOfflineQueue: role !== 'producer',
    maxRedirections: role === 'producer' ? producerRedirections : Infinity,
    clusterRetryStrategy: reconnectMs,
    retryDelayOnFailover: retryMs, retryDelayOnClusterDown: retryMs,
    slotsRefreshInterval: clusterRefreshMs,
    // Names stay names, so that certificates can be checked against them.
    dnsLookup: (host, callback) => callback(null, host),
  });
  cluster.on('+node', (node: Redis) => { node.on('connect', () => writeOnceATurn(node.stream)); });
  return cluster as unknown as Redis;
}

/**
 * Every node of a cluster hears what is published at any of them, so a subscriber takes one after the other until one
 * answers. A Cluster would change its subscriber without telling that messages may have been missed.
 */
function connectToAnyOf(servers: readonly Server[], options: Options): Redis {
  const redis = new Connection({
    ...options, ...servers[0],
    retryStrategy: (attempt) => {
      Object.assign(redis.options, servers[attempt % servers.length]);
      return reconnectMs(attempt);
    },
  }) as Redis;
  return redis;
}

/** The answer to a command, and to a script with such a command. */
const denied = /NOPERM|user executing the script can't/;

/** Called by ioredis for every error reply: 2 means to reconnect and send the command again. */
function onReplyError(error: Error, onError: (error: Error) => void): false | 2 {
  if (denied.test(error.message)) onError(new Error(`Redis does not let this user do what is needed (deploy/redis/users.acl): ${error.message}`));
  // After a failover that closed no connections, this one leads to a replica.
  return error.message.startsWith('READONLY') && 2;
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

/** Turns what ioredis and BullMQ reject with into the catalogue's `queue-unavailable`, or `queue-memory` where Redis is full. */
export function asQueueUnavailable(error: unknown, detail = 'Redis cannot be reached'): MillraceError {
  if (error instanceof MillraceError) return error;
  // A script's error has the code somewhere inside.
  const code = error instanceof ReplyError ? /\b(OOM|MISCONF|LOADING)\b/.exec((error as Error).message)?.[1] : undefined;
  if (code === 'OOM') return new MillraceError('queue-memory', 'Redis is at its memory limit and takes nothing more', { cause: error, retryAfterSeconds: 30 });
  return new MillraceError('queue-unavailable', refusals[code ?? ''] ?? detail, { cause: error, retryAfterSeconds: 2 });
}

const refusals: Readonly<Record<string, string>> = {
  MISCONF: 'Redis cannot write to its disk, and takes nothing until it can',
  LOADING: 'Redis is loading its data',
};

/** For a promise's `catch`, likewise. */
export function rethrowUnavailable(error: unknown): never {
  throw asQueueUnavailable(error);
}
