// Requests that wait for results, and what wakes them: a reply stream per pool. Wake-ups are hints, the results hash is
// the truth: whoever waits longer than a moment is looked up there.
import { type Address, parsePredictionId, presentPrediction } from '@millrace/protocol';
import { lookupSettled, type Redis, ReplyReader, Settler, type Wanted } from '@millrace/queue';

interface Waiter {
  readonly since: number;
  readonly tenant: string;
  readonly wake: Wake;
}

/** Told once: the prediction as JSON text, or nothing where the wait ends without it. */
export type Wake = (id: string, reply: string | undefined) => void;

export interface WaitersOptions {
  readonly redis: Redis;
  /** Opens the connection that waits for the replies of one pool. */
  readonly connectBlocking: () => Redis;
  readonly node: string;
  readonly retentionSeconds: number;
  readonly onError: (error: unknown) => void;
}

const sweepMs = 2000;
/** Looked up together: a result may have megabytes, so these are not too many. */
const sweepChunk = 100;

export class Waiters {
  readonly #options: WaitersOptions;
  readonly #waiting = new Map<string, Waiter[]>();
  readonly #readers = new Map<string, Promise<ReplyReader>>();
  readonly #listening = new Set<string>();
  #sweeping = false;
  #released = false;
  #sweeper: NodeJS.Timeout | undefined;

  constructor(options: WaitersOptions) {
    this.#options = options;
  }

  get node(): string {
    return this.#options.node;
  }

  start(): void {
    this.#sweeper = setInterval(() => { this.#sweep().catch(this.#options.onError); }, sweepMs);
  }

  /** Ends every wait as if its time were over. */
  release(): void {
    this.#released = true;
    for (const [id, waiters] of this.#waiting) for (const { wake } of waiters) wake(id, undefined);
    this.#waiting.clear();
  }

  async stop(): Promise<void> {
    clearInterval(this.#sweeper);
    for (const reader of this.#readers.values()) await (await reader).stop();
  }

  /** Whether wake-ups of a pool arrive here already. */
  listensTo(pool: string): boolean {
    return this.#listening.has(pool);
  }

  /** Makes sure that wake-ups of a pool arrive here. */
  async listenTo(pool: string): Promise<void> {
    let reader = this.#readers.get(pool);
    if (!reader) this.#readers.set(pool, reader = this.#startReader(pool));
    try {
      await reader;
    } catch (error) {
      this.#readers.delete(pool);
      throw error;
    }
    this.#listening.add(pool);
  }

  /** Waits for a prediction that is about to be queued, and whose bundle names this node. */
  expect(id: string, tenant: string, wake: Wake): void {
    if (this.#released) return wake(id, undefined);
    const waiter = { since: Date.now(), tenant, wake };
    const others = this.#waiting.get(id);
    if (others) others.push(waiter);
    else this.#waiting.set(id, [waiter]);
  }

  forget(id: string, wake: Wake): void {
    const left = this.#waiting.get(id)?.filter((waiter) => waiter.wake !== wake) ?? [];
    if (left.length > 0) this.#waiting.set(id, left);
    else this.#waiting.delete(id);
  }

  /** Resolves when a prediction that was queued before is settled, or when the time is over. */
  async watch(address: Address, id: string, tenant: string, waitMs: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const wake = () => resolve();
    const timer = setTimeout(wake, waitMs);
    try {
      if (!await this.expectQueued(address, id, tenant, wake)) await promise;
    } finally {
      clearTimeout(timer);
      this.forget(id, wake);
    }
  }

  /** Waits for a prediction that was queued before. Returns true where it is settled already: then nobody may wake it. */
  async expectQueued(address: Address, id: string, tenant: string, wake: Wake): Promise<boolean> {
    const { redis, retentionSeconds } = this.#options;
    await this.listenTo(address.pool);
    this.expect(id, tenant, wake);
    return new Settler(redis, address.pool, retentionSeconds).watch(address, this.node);
  }

  #wake(id: string, reply: string): void {
    const waiters = this.#waiting.get(id);
    if (!waiters) return;
    this.#waiting.delete(id);
    for (const { wake } of waiters) wake(id, reply);
  }

  async #startReader(pool: string): Promise<ReplyReader> {
    const { redis, connectBlocking, node, onError } = this.#options;
    const blocking = connectBlocking();
    const reader = new ReplyReader({
      redis, pool, node, onError, blocking,
      onReply: (id, reply) => {
        if (reply === '') this.#lookUp([id]).catch(onError);
        else this.#wake(id, reply);
      },
    });
    try {
      await reader.start();
    } catch (error) {
      blocking.disconnect();
      throw error;
    }
    return reader;
  }

  /** Reads what waited too long for a wake-up that may have been lost. */
  async #sweep(): Promise<void> {
    if (this.#sweeping) return;
    this.#sweeping = true;
    const before = Date.now() - sweepMs;
    const late = [...this.#waiting].filter(([, waiters]) => waiters.some(({ since }) => since < before)).map(([id]) => id);
    try {
      for (let at = 0; at < late.length; at += sweepChunk) await this.#lookUp(late.slice(at, at + sweepChunk));
    } finally {
      this.#sweeping = false;
    }
  }

  async #lookUp(ids: readonly string[]): Promise<void> {
    const wanted = ids.flatMap((id): Wanted[] => {
      const tenant = this.#waiting.get(id)?.[0]?.tenant;
      const address = parsePredictionId(id);
      return tenant === undefined || !address ? [] : [{ id, address, tenant }];
    });
    for (const [id, record] of await lookupSettled(this.#options.redis, wanted)) this.#wake(id, JSON.stringify(presentPrediction(id, record)));
  }
}
