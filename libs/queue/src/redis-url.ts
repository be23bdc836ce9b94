// REDIS_URL: which servers there are, what they form together, and whom to log in as.

export interface Server {
  readonly host: string;
  readonly port: number;
}

interface Login {
  readonly username?: string;
  readonly password?: string;
}

/** What a Redis URL says. `db` is 0 where it names none. */
export type RedisPlace = { readonly tls: boolean; readonly login: Login } & (
  | { readonly kind: 'server'; readonly server: Server; readonly db: number }
  | { readonly kind: 'socket'; readonly path: string; readonly db: number }
  | { readonly kind: 'cluster'; readonly servers: readonly Server[] }
  /** `servers` are the sentinels, which may ask for a login of their own. */
  | { readonly kind: 'sentinel'; readonly servers: readonly Server[]; readonly master: string; readonly db: number; readonly sentinelLogin: Login }
);

export const redisUrlPattern = '^(rediss?(\\+cluster|\\+sentinel)?|unix)://';

const redisPort = 6379;
const sentinelPort = 26_379;
const wholeUrl = /^(?<scheme>redis|rediss|unix)(?:\+(?<form>cluster|sentinel))?:\/\/(?:(?<login>[^@/]*)@)?(?<servers>[^/?@]*)(?<path>\/[^?]*)?(?:\?(?<query>.*))?$/;

/**
 * Takes a Redis URL apart. Throws with a sentence that does not repeat the URL, since it may hold a password.
 *
 * - `redis://[user:password@]host[:port][/db]`, with TLS `rediss://`
 * - `unix://[user:password@]/path/of/socket[?db=1]`
 * - `redis+cluster://[user:password@]host:port,host:port`, with TLS `rediss+cluster://`
 * - `redis+sentinel://[user:password@]host:port,host:port/master[?db=1&sentinel_username=…&sentinel_password=…]`, with TLS `rediss+sentinel://`
 */
export function parseRedisUrl(url: string): RedisPlace {
  const { scheme, form, login = '', servers = '', path = '', query } = wholeUrl.exec(url)?.groups ?? {};
  if (scheme === undefined) throw new Error('REDIS_URL is not a Redis URL: docs/05-operations.md shows its forms');
  const common = { tls: scheme === 'rediss', login: loginOf(login) };
  const options = new URLSearchParams(query);
  const db = (text: string | null) => numberOf(text || '0', 'database');

  if (form === 'cluster') {
    if (path.length > 1) throw new Error('REDIS_URL names a database, and a Redis Cluster has only one');
    return { ...common, kind: 'cluster', servers: serversOf(servers, redisPort) };
  }
  if (form === 'sentinel') {
    if (path.length < 2) throw new Error('REDIS_URL must name the master that the sentinels watch: redis+sentinel://host:port/<master>');
    const sentinelLogin = present({ username: options.get('sentinel_username'), password: options.get('sentinel_password') });
    return { ...common, kind: 'sentinel', servers: serversOf(servers, sentinelPort), master: decodeURIComponent(path.slice(1)), db: db(options.get('db')), sentinelLogin };
  }
  if (scheme === 'unix') {
    if (servers !== '' || path.length < 2) throw new Error('REDIS_URL must name the socket by its whole path: unix:///path/of/socket');
    return { ...common, kind: 'socket', path: decodeURIComponent(path), db: db(options.get('db')) };
  }
  const [server, ...others] = serversOf(servers, redisPort);
  if (!server || others.length > 0) throw new Error('REDIS_URL names several servers: redis+cluster:// and redis+sentinel:// are for that');
  return { ...common, kind: 'server', server, db: db(path.slice(1) || options.get('db')) };
}

function loginOf(text: string): Login {
  const colon = text.includes(':') ? text.indexOf(':') : text.length;
  return present({ username: decodeURIComponent(text.slice(0, colon)), password: decodeURIComponent(text.slice(colon + 1)) });
}

function present({ username, password }: { username: string | null; password: string | null }): Login {
  return { ...(username && { username }), ...(password && { password }) };
}

function serversOf(text: string, defaultPort: number): Server[] {
  return text.split(',').map((server) => {
    const [, host, port] = /^(\[[^\]]+\]|[^:[\]]+)(?::([^:]+))?$/.exec(server) ?? [];
    if (host === undefined) throw new Error('REDIS_URL has a server that is not <host> or <host>:<port>');
    return { host: host.replaceAll(/[[\]]/g, ''), port: port === undefined ? defaultPort : numberOf(port, 'port') };
  });
}

function numberOf(text: string, what: string): number {
  if (!/^\d{1,5}$/.test(text)) throw new Error(`REDIS_URL has a ${what} that is no number`);
  return Number(text);
}
