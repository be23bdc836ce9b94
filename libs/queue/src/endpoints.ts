// Registered webhook endpoints in Redis, how they fare, and the secrets of tenants.
import { randomBytes } from 'node:crypto';
import { type DisabledReason, type EndpointEvent, eventOf, type PayloadKind } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { deliveryKeys, keysOf } from './names.ts';
import { readPools, registerPool } from './results-queue.ts';

/** What deliveries are signed with. Times are milliseconds since the epoch. */
export interface Secrets {
  readonly current: string;
  /** Signs too until then. */
  readonly old?: { readonly secret: string; readonly until: number } | undefined;
}

/** An endpoint as its owner made it. */
export interface Endpoint {
  readonly id: string;
  readonly tenant: string;
  readonly url: string;
  readonly description: string;
  readonly events: readonly EndpointEvent[];
  readonly payload: PayloadKind;
  readonly secrets: Secrets;
  readonly createdAt: number;
}

/** How it fares: written by dispatchers, and when it is disabled or enabled. */
export interface EndpointHealth {
  readonly failingSince?: number | undefined;
  readonly disabled?: { readonly at: number; readonly reason: DisabledReason } | undefined;
}

export interface KnownEndpoint {
  readonly endpoint: Endpoint;
  readonly health: EndpointHealth;
}

export type NewEndpoint = Pick<Endpoint, 'tenant' | 'url' | 'description' | 'events' | 'payload'>;

/** What happens while an endpoint is disabled is only kept for it where that was not its own or its owner's wish. */
export function hears({ disabled }: EndpointHealth): boolean {
  return disabled === undefined || disabled.reason === 'failing';
}

export class EndpointStore {
  readonly #redis: Redis;

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** The tenant's endpoints, oldest first. */
  async list(tenant: string): Promise<KnownEndpoint[]> {
    const [endpoints, health] = await Promise.all([this.#redis.hgetall(deliveryKeys.endpoints(tenant)), this.#redis.hgetall(deliveryKeys.health(tenant))]);
    return Object.values(endpoints).map((text) => {
      const endpoint = JSON.parse(text) as Endpoint;
      return { endpoint, health: JSON.parse(health[endpoint.id] ?? '{}') as EndpointHealth };
    }).toSorted((a, b) => a.endpoint.createdAt - b.endpoint.createdAt);
  }

  async find(id: string, tenant: string): Promise<KnownEndpoint | undefined> {
    return (await this.list(tenant)).find(({ endpoint }) => endpoint.id === id);
  }

  /** Makes one, where the tenant has fewer than `most`. What is settled from then on is told to it. */
  async create(wanted: NewEndpoint, secret: string, { createdAt, most }: { readonly createdAt: number; readonly most: number }): Promise<Endpoint | undefined> {
    // First, so that `retell` finds it wherever this ends.
    await this.#redis.sadd(deliveryKeys.tenants, wanted.tenant);
    const endpoint: Endpoint = { id: `ep_${randomBytes(12).toString('hex')}`, ...wanted, secrets: { current: secret }, createdAt };
    if (await this.#redis.millraceEnroll(deliveryKeys.endpoints(endpoint.tenant), endpoint.id, JSON.stringify(endpoint), most) === 0) return undefined;
    await this.#tellPools(endpoint.tenant);
    return endpoint;
  }

  /** Changes one, whoever else does meanwhile; undefined where there is none. */
  async change(id: string, tenant: string, change: (endpoint: Endpoint) => Endpoint): Promise<Endpoint | undefined> {
    const changed = await this.#change<Endpoint>(deliveryKeys.endpoints(tenant), id, (endpoint) => endpoint && change(endpoint));
    if (changed) await this.#tellPools(tenant);
    return changed;
  }

  /** Changes how it fares, likewise. */
  async changeHealth({ id, tenant }: Pick<Endpoint, 'id' | 'tenant'>, change: (health: EndpointHealth) => EndpointHealth): Promise<EndpointHealth> {
    const changed = await this.#change<EndpointHealth>(deliveryKeys.health(tenant), id, (health = {}) => change(health));
    await this.#tellPools(tenant);
    return changed ?? {};
  }

  async remove({ id, tenant }: Pick<Endpoint, 'id' | 'tenant'>): Promise<void> {
    await this.#redis.hdel(deliveryKeys.endpoints(tenant), id);
    await this.#redis.hdel(deliveryKeys.health(tenant), id);
    await this.#tellPools(tenant);
  }

  /** The secret that signs the webhooks that the tenant's requests name; made by `newSecret` where there is none yet. */
  async tenantSecrets(tenant: string, newSecret: () => string): Promise<Secrets> {
    const known = await this.#redis.hget(deliveryKeys.secrets, tenant);
    if (known !== null) return JSON.parse(known) as Secrets;
    const made: Secrets = { current: newSecret() };
    if (await this.#redis.hsetnx(deliveryKeys.secrets, tenant, JSON.stringify(made)) === 1) return made;
    return this.tenantSecrets(tenant, newSecret);
  }

  async changeTenantSecrets(tenant: string, change: (secrets: Secrets | undefined) => Secrets): Promise<Secrets> {
    return await this.#change<Secrets>(deliveryKeys.secrets, tenant, change) as Secrets;
  }

  /**
   * Makes a pool known, and who listens known to it. Registered first: an endpoint that is made meanwhile is either read
   * here, or its maker sees the pool.
   */
  async openPool(pool: string): Promise<void> {
    await registerPool(this.#redis, pool);
    await this.#tellAll(pool);
  }

  /** Tells every pool again who listens: a process may have died before it had told all, or Redis may have lost a part. */
  async retell(): Promise<void> {
    for (const pool of await readPools(this.#redis)) await this.#tellAll(pool);
  }

  async #tellAll(pool: string): Promise<void> {
    for (const tenant of await this.#redis.smembers(deliveryKeys.tenants)) await this.#tellPool(pool, tenant);
  }

  /** Writes what `change` makes of a record, once nobody else has written it in between; where that is undefined, nothing. */
  async #change<Value>(hash: string, id: string, change: (before: Value | undefined) => Value | undefined): Promise<Value | undefined> {
    for (;;) {
      const before = await this.#redis.hget(hash, id);
      const after = change(before === null ? undefined : JSON.parse(before) as Value);
      if (after === undefined || await this.#redis.millraceReplace(hash, id, before ?? '', JSON.stringify(after)) === 1) return after;
    }
  }

  async #tellPools(tenant: string): Promise<void> {
    await Promise.all((await readPools(this.#redis)).map((pool) => this.#tellPool(pool, tenant)));
  }

  /**
   * What settling looks at: the ends that somebody of the tenant listens for. Read again after it is written: somebody else
   * may have changed an endpoint and written this in between.
   */
  async #tellPool(pool: string, tenant: string): Promise<void> {
    const { listeners } = keysOf(pool);
    let told: string | undefined;
    for (;;) {
      const ends = await this.#endsHeard(tenant);
      if (ends === told) return;
      if (ends === '') await this.#redis.hdel(listeners, tenant);
      else await this.#redis.hset(listeners, tenant, ends);
      told = ends;
    }
  }

  async #endsHeard(tenant: string): Promise<string> {
    const wanted = new Set((await this.list(tenant)).flatMap(({ endpoint, health }) => (hears(health) ? endpoint.events : [])));
    return Object.entries(eventOf).flatMap(([end, event]) => (wanted.has(event) ? [end] : [])).join(' ');
  }
}
