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

  /** Makes one. What is settled from then on is told to it. */
  async create(wanted: NewEndpoint, secret: string, createdAt: number): Promise<Endpoint> {
    const endpoint: Endpoint = { id: `ep_${randomBytes(12).toString('hex')}`, ...wanted, secrets: { current: secret }, createdAt };
    await this.write(endpoint);
    return endpoint;
  }

  /** Writes an endpoint that has been changed. */
  async write(endpoint: Endpoint): Promise<void> {
    await this.#redis.hset(deliveryKeys.endpoints(endpoint.tenant), endpoint.id, JSON.stringify(endpoint));
    await this.#tellPools(endpoint.tenant);
  }

  /** Writes how it fares. */
  async writeHealth({ id, tenant }: Pick<Endpoint, 'id' | 'tenant'>, health: EndpointHealth): Promise<void> {
    await this.#redis.hset(deliveryKeys.health(tenant), id, JSON.stringify(health));
    await this.#tellPools(tenant);
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

  async writeTenantSecrets(tenant: string, secrets: Secrets): Promise<void> {
    await this.#redis.hset(deliveryKeys.secrets, tenant, JSON.stringify(secrets));
  }

  /**
   * Makes a pool known, and who listens known to it. Registered first: an endpoint that is made meanwhile is either read
   * here, or its maker sees the pool.
   */
  async openPool(pool: string): Promise<void> {
    await registerPool(this.#redis, pool);
    for (const tenant of await this.#redis.smembers(deliveryKeys.tenants)) await this.#tellPool(pool, tenant);
  }

  async #tellPools(tenant: string): Promise<void> {
    await this.#redis.sadd(deliveryKeys.tenants, tenant);
    await Promise.all((await readPools(this.#redis)).map((pool) => this.#tellPool(pool, tenant)));
  }

  /** What settling looks at: the ends that somebody of the tenant listens for. */
  async #tellPool(pool: string, tenant: string): Promise<void> {
    const { listeners } = keysOf(pool);
    const wanted = new Set((await this.list(tenant)).flatMap(({ endpoint, health }) => (hears(health) ? endpoint.events : [])));
    const ends = Object.entries(eventOf).flatMap(([end, event]) => (wanted.has(event) ? [end] : []));
    if (ends.length > 0) await this.#redis.hset(listeners, tenant, ends.join(' '));
    else await this.#redis.hdel(listeners, tenant);
  }
}
