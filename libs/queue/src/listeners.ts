// Which tenants have somebody who listens for the beginning of runs: a copy, read again every two seconds, so that no run asks
// Redis. With it the pool is registered again, should Redis have lost its data.
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';
import { registerPool } from './results-queue.ts';

const readEveryMs = 2000;

export class StartListeners {
  readonly #redis: Redis;
  readonly #pool: string;
  #tenants: ReadonlySet<string> = new Set();
  #timer: NodeJS.Timeout | undefined;

  constructor(redis: Redis, pool: string) {
    this.#redis = redis;
    this.#pool = pool;
  }

  has(tenant: string): boolean {
    return this.#tenants.has(tenant);
  }

  async start(): Promise<void> {
    await this.#read();
    // Without Redis nothing runs either: then the last copy is as good as another.
    this.#timer = setInterval(() => { this.#read().catch(() => {}); }, readEveryMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  async #read(): Promise<void> {
    await registerPool(this.#redis, this.#pool);
    const listeners = await this.#redis.hgetall(keysOf(this.#pool).listeners);
    this.#tenants = new Set(Object.entries(listeners).flatMap(([tenant, ends]) => (ends.split(' ').includes('running') ? [tenant] : [])));
  }
}
