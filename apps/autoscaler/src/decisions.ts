// What was last decided for each pool, for those who ask and those who wait for a change.

type Listener = (desired: number) => void;

export class Decisions {
  readonly #holdsMs: number;
  readonly #now: () => number;
  readonly #pools: ReadonlyMap<string, { last?: { readonly desired: number; readonly at: number }; readonly listeners: Set<Listener> }>;

  /** A decision that is older than `holdsMs` is none: nobody here decides any more. `now` in milliseconds. */
  constructor(pools: Iterable<string>, holdsMs: number, now: () => number) {
    this.#pools = new Map([...pools].map((pool) => [pool, { listeners: new Set() }]));
    this.#holdsMs = holdsMs;
    this.#now = now;
  }

  has(pool: string): boolean {
    return this.#pools.has(pool);
  }

  /** Workers that the pool should have; undefined where nothing holds. */
  of(pool: string): number | undefined {
    const last = this.#pools.get(pool)?.last;
    return last && this.#now() - last.at <= this.#holdsMs ? last.desired : undefined;
  }

  /** What holds, by pool. */
  all(): [pool: string, desired: number][] {
    return [...this.#pools.keys()].flatMap((pool) => {
      const desired = this.of(pool);
      return desired === undefined ? [] : [[pool, desired]];
    });
  }

  tell(pool: string, desired: number): void {
    const entry = this.#pools.get(pool);
    if (!entry) return;
    entry.last = { desired, at: this.#now() };
    for (const listener of entry.listeners) listener(desired);
  }

  /** Calls with each decision from now on, changed or not; gives what ends that. */
  listen(pool: string, listener: Listener): () => void {
    const listeners = this.#pools.get(pool)?.listeners;
    listeners?.add(listener);
    return () => listeners?.delete(listener);
  }
}
