// Who calls, and what they may. Every route names the scope that it needs; a route that names none keeps the server from starting.
import { type ApiKey, defaultTenant, type KeyLimits, MillraceError, problemResponses, type Scope } from '@millrace/protocol';
import type { KeyRing } from '@millrace/queue';
import type { FastifyInstance, FastifyRequest, RouteOptions } from 'fastify';

/** The owner of what a request submits and reads. A key is one; without keys there is one caller for all. */
export interface Caller {
  readonly tenant: string;
  /** The key's, where there is one. */
  readonly id?: string;
  readonly limits?: KeyLimits;
}

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller;
    /** Whether its key would still let it in: for answers that stay open. */
    mayStay(): boolean;
  }
  interface FastifyContextConfig {
    /** What a key must have for this route; `public` needs no key. */
    scope?: Scope | 'public';
  }
}

export interface CallerOptions {
  readonly keys: KeyRing;
  /** Whether others than this machine can reach the server: then even an empty store lets nobody in. */
  readonly exposed: boolean;
}

const anybody: Caller = { tenant: defaultTenant };
const bearer = /^bearer +(\S+) *$/i;

/** Lets in who may, before the body is read. To be called before any route is declared. */
export function admitCallers(app: FastifyInstance, options: CallerOptions): void {
  app.decorateRequest('caller');
  app.decorateRequest('mayStay', function mayStay(this: FastifyRequest) {
    try {
      admit(this, options);
      return true;
    } catch (error) {
      // Where the keys cannot be read it has not lost its own.
      return error instanceof MillraceError && error.code === 'queue-unavailable';
    }
  });
  const routes: RouteOptions[] = [];
  app.addHook('onRoute', (route) => {
    routes.push(route);
    const scope = route.config?.scope;
    if (scope !== undefined && scope !== 'public') documentScope(route, scope);
  });
  app.addHook('onReady', async () => {
    const open = routes.filter(({ config }) => config?.scope === undefined).map(({ method, url }) => `${String(method)} ${url}`);
    if (open.length > 0) throw new Error(`routes that do not say which scope they need: ${open.join(', ')}`);
  });
  app.addHook('onRequest', (request, _reply, done) => {
    try {
      admit(request, options);
      done();
    } catch (error) {
      done(error as Error);
    }
  });
}

/** Sets the caller. Throws `unauthorized`, `forbidden` or `queue-unavailable`. */
function admit(request: FastifyRequest, { keys, exposed }: CallerOptions): void {
  request.caller = anybody;
  if (keys.isEmpty && !exposed) return;
  const { scope } = request.routeOptions.config;
  // A path that leads nowhere has no scope.
  if (scope === 'public' || request.is404) return;
  const text = keyTextOf(request);
  if (text === undefined) throw new MillraceError('unauthorized', 'Send an API key: `Authorization: Bearer mrk_…`');
  const key = keys.find(text);
  if (!key) throw new MillraceError('unauthorized', 'This is none of the API keys here');
  checkValid(key, Date.now());
  request.caller = key;
  if (!key.scopes.includes(scope as Scope)) throw new MillraceError('forbidden', `The API key ${key.id} lacks the scope ${scope}; it has ${key.scopes.join(', ')}`);
}

function checkValid({ id, revokedAt, expiresAt = Infinity }: ApiKey, now: number): void {
  if (revokedAt !== undefined) throw new MillraceError('unauthorized', `The API key ${id} has been revoked`);
  if (expiresAt <= now) throw new MillraceError('unauthorized', `The API key ${id} expired at ${new Date(expiresAt).toISOString()}`);
}

/** `Authorization` goes before `X-API-Key`; one that is not of the Bearer scheme is no key. */
function keyTextOf({ headers }: FastifyRequest): string | undefined {
  const { authorization, 'x-api-key': bare } = headers;
  if (authorization !== undefined) return bearer.exec(authorization)?.[1] ?? '';
  return typeof bare === 'string' ? bare : undefined;
}

function documentScope(route: RouteOptions, scope: Scope): void {
  const response = { ...(route.schema?.response as object | undefined), ...problemResponses('unauthorized', 'forbidden', 'rate-limited') };
  route.schema = { ...route.schema, response, security: [{ apiKey: [scope] }] };
}
