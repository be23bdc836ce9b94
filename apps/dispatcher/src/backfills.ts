// Coordinates backfills: takes those that nobody has and somebody has to see to, and holds them while it works on them.
import { openStorage, type Storage } from '@millrace/backfill';
import { placesOf } from '@millrace/backfill/settings';
import type { Logger } from '@millrace/process';
import { type BackfillState, earliestBackfillId, isBackfillId } from '@millrace/protocol';
import { backfillLeaseMs, BackfillStore, Chunks, type HeldBackfill, LeaseLost, type Redis } from '@millrace/queue';
import type { BackfillNews } from './backfill-host.ts';
import { BackfillRun } from './backfill-run.ts';
import type { DispatcherConfig } from './config.ts';

export interface BackfillsOptions {
  readonly config: DispatcherConfig;
  readonly redis: Redis;
  readonly log: Logger;
  readonly version: string;
  readonly tell: (news: BackfillNews) => void;
}

/** One that this process works on. */
interface Holding {
  readonly held: HeldBackfill;
  readonly abort: AbortController;
  run: BackfillRun | undefined;
  /** On the clock of `performance.now()`. */
  leaseEndsAt: number;
  ended: Promise<void>;
}

const pollMs = 50;
const sweepMs = 3_600_000;
const extendMs = backfillLeaseMs / 3;
/** Others wait until one of them has ended: their chunks would only wait behind each other. */
const mostHeld = 16;

export class Backfills {
  readonly #options: BackfillsOptions;
  readonly #store: BackfillStore;
  readonly #storage: Storage;
  readonly #chunks = new Map<string, Chunks>();
  readonly #holdings = new Map<string, Holding>();
  readonly #timers: NodeJS.Timeout[] = [];
  #polling: Promise<void> | undefined;
  #stopping = false;

  private constructor(options: BackfillsOptions, storage: Storage) {
    this.#options = options;
    this.#storage = storage;
    this.#store = new BackfillStore(options.redis, options.config.backfillRetentionSeconds);
  }

  /** `work`: the setting `backfillWork`. */
  static async open(work: string, options: BackfillsOptions): Promise<Backfills> {
    return new Backfills(options, await openStorage(work, options.config));
  }

  /** Resolves once the API can tell that somebody works on backfills. */
  async start(): Promise<void> {
    await this.#store.announce();
    this.#timers.push(
      setInterval(() => { this.#store.announce().catch((error: unknown) => this.#options.log.warn({ err: error }, 'backfills cannot be announced')); }, extendMs),
      setInterval(() => { this.#polling ??= this.#poll().finally(() => { this.#polling = undefined; }); }, pollMs),
      setInterval(() => { void this.#sweep(); }, sweepMs),
      setInterval(() => { for (const holding of this.#holdings.values()) this.#extend(holding); }, extendMs),
    );
  }

  /** Leaves them where they are: what is queued goes on, and another coordinator takes them. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (const timer of this.#timers) clearInterval(timer);
    for (const { abort } of this.#holdings.values()) abort.abort(new Error('the process is stopping'));
    await this.#polling;
    await Promise.all([...this.#holdings.values()].map(({ ended }) => ended));
    await Promise.all([...this.#chunks.values()].map((chunks) => chunks.close()));
    await this.#storage.close();
  }

  async #poll(): Promise<void> {
    try {
      for (const id of await this.#store.open()) {
        if (this.#stopping || this.#holdings.size >= mostHeld) return;
        if (!this.#holdings.has(id)) await this.#take(id);
      }
    } catch (error) {
      this.#options.log.warn({ err: error }, 'backfills cannot be read');
    } finally {
      this.#tellStates();
    }
  }

  #tellStates(): void {
    const states = new Map<BackfillState, number>();
    for (const { run } of this.#holdings.values()) if (run) states.set(run.state, (states.get(run.state) ?? 0) + 1);
    this.#options.tell({ kind: 'states', states });
  }

  async #take(id: string): Promise<void> {
    const takenAt = performance.now();
    const held = await this.#store.hold(id);
    if (!held) return;
    const holding: Holding = { held, abort: new AbortController(), run: undefined, leaseEndsAt: takenAt + backfillLeaseMs, ended: Promise.resolve() };
    this.#holdings.set(id, holding);
    holding.ended = this.#work(id, holding);
  }

  /** Does not reject. */
  async #work(id: string, holding: Holding): Promise<void> {
    const { log, config } = this.#options;
    const { held, abort: { signal } } = holding;
    try {
      const record = await this.#store.find(id);
      if (record) {
        holding.run = new BackfillRun(held, record, { ...this.#options, storage: this.#storage, places: placesOf(record.tenant, config), chunksOf: (pool) => this.#chunksOf(pool) });
        await holding.run.run(signal);
      }
    } catch (error) {
      if (error instanceof LeaseLost) log.warn({ backfillId: id }, 'lease lost, another coordinator has the backfill');
      else if (!signal.aborted) log.error({ err: error, backfillId: id }, 'backfill is left to another coordinator');
    } finally {
      this.#holdings.delete(id);
      await held.release().catch(() => { /* its lease ends */ });
    }
  }

  /** Nobody may work on what another may hold: so it ends here in time, whatever Redis answers. */
  #extend(holding: Holding): void {
    const { held, abort } = holding;
    const now = performance.now();
    if (now > holding.leaseEndsAt - 1.5 * extendMs) abort.abort(new LeaseLost());
    held.extend().then(() => { holding.leaseEndsAt = now + backfillLeaseMs; }, (error: unknown) => abort.abort(error));
  }

  /** Removes what backfills have left whose records are forgotten. */
  async #sweep(): Promise<void> {
    const { log, config: { backfillRetentionSeconds } } = this.#options;
    try {
      const left = (await this.#storage.backfills()).filter((id) => isBackfillId(id) && id < earliestBackfillId(Date.now() - 1000 * backfillRetentionSeconds));
      for (const id of left) if (!await this.#store.find(id)) await this.#storage.workOf(id).clear();
    } catch (error) {
      log.warn({ err: error }, 'work folder cannot be swept');
    }
  }

  #chunksOf(pool: string): Chunks {
    let chunks = this.#chunks.get(pool);
    if (!chunks) this.#chunks.set(pool, chunks = new Chunks(this.#options.redis, pool));
    return chunks;
  }
}
