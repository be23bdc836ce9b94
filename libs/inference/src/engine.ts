// Inference threads and what runs on them: the one thing that the rest of a worker sees of ONNX Runtime.
import { MillraceError } from '@millrace/protocol';
import type { ModelVersion } from '@millrace/models';
import { choose } from './placement.ts';
import type { Choice } from './placement.ts';
import { SessionCache, keyOf } from './session-cache.ts';
import type { CachedSession } from './session-cache.ts';
import { SessionHost } from './session-host.ts';
import { split, stack } from './stack.ts';
import type { BatchItem, ItemOutcome } from './stack.ts';
import type { Warning } from './thread-messages.ts';

export interface SessionLoaded {
  readonly version: ModelVersion;
  readonly thread: number;
  /** Reading, verifying, creating and warming up. */
  readonly loadMs: number;
  /** Execution providers in use, in order of preference. */
  readonly providers: readonly string[];
  readonly batched: boolean;
}

export interface SessionReleased {
  readonly version: ModelVersion;
  readonly thread: number;
}

export interface EngineOptions {
  readonly threads: number;
  /** All sessions together stay below it; one counts as many bytes as its file has. */
  readonly sessionMemoryBytes: number;
  readonly onLoad?: (event: SessionLoaded) => void;
  readonly onRelease?: (event: SessionReleased) => void;
  readonly onWarning?: (message: string, fields: Readonly<Record<string, unknown>>) => void;
  /** `canTake` may have turned true, though no `run` and no `preload` ended. */
  readonly onCapacity?: () => void;
  /**
   * A thread died of a bug or for want of JavaScript memory (a native crash takes the process along). Its micro-batches
   * failed as `worker-crashed`, and it gets no more: replace the process. Without this callback the error is thrown, uncaught.
   */
  readonly onThreadDeath?: (error: Error) => void;
}

interface Thread {
  readonly host: SessionHost;
  /** Micro-batches and preloads. */
  inFlight: number;
  /** When it was last free of a micro-batch or a load, on the clock of `performance.now()`. */
  freeAt: number;
}

/**
 * Runs micro-batches on threads of its own. Started and stopped once. A process that exits while a thread runs is aborted
 * by the binding (code 134), so end with `stop`, or where that takes too long with SIGKILL.
 */
export class InferenceEngine {
  readonly #options: EngineOptions;
  readonly #cache: SessionCache;
  readonly #work = new Set<Promise<unknown>>();
  #threads: readonly Thread[] = [];
  #starting: Promise<void> | undefined;
  #stopping: Promise<void> | undefined;

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#cache = new SessionCache({
      threads: options.threads,
      maxBytes: options.sessionMemoryBytes,
      load: (session) => this.#load(session),
      release: (session) => this.#release(session),
      onAdmitted: () => options.onCapacity?.(),
    });
  }

  /** Resolves when every thread answered. */
  start(): Promise<void> {
    this.#starting ??= this.#spawn();
    return this.#starting;
  }

  /**
   * Whether a micro-batch of the version would run at once, or (`full`: it cannot grow any more) wait prepared behind the
   * one that runs. While a load waits for memory nothing is taken, so that sessions fall idle and can be released.
   */
  canTake(version: ModelVersion, full: boolean): boolean {
    if (this.#stopping || this.#cache.waiting > 0) return false;
    const choice = this.#choose(version);
    return choice !== undefined && (choice.idle || (full && choice.prefetch));
  }

  /**
   * Runs predictions, stacked where the model allows it, and gives one outcome each, in order. All have the same inputs
   * and per-row shapes. Outcomes fail with `model-failed`, `out-of-memory`, `model-unavailable`, `model-changed`,
   * `worker-crashed` or `internal`; it throws only where it is used wrongly.
   */
  async run(version: ModelVersion, items: readonly BatchItem[]): Promise<readonly ItemOutcome[]> {
    this.#assertRunning();
    if (items.length === 0) return [];
    if (!version.batched && items.length > 1) {
      return (await Promise.all(items.map((item) => this.run(version, [item])))).flat();
    }
    const batch = stack(items);
    try {
      return await this.#occupy(version, this.#bestThread(version), async ({ key }, thread) => {
        const sentAt = performance.now();
        const reply = await thread.host.run({ type: 'run', key, rows: batch.rows, inputs: batch.inputs }, batch.transfer);
        // One that was sent while another ran has had the thread since that one ended.
        const takenAt = Math.max(sentAt, thread.freeAt);
        thread.freeAt = performance.now();
        this.#warn(reply.warnings, version);
        return split(items, reply, thread.freeAt - takenAt);
      });
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      return items.map(() => ({ ok: false, error }));
    }
  }

  /** Resolves when as many threads as the manifest wants have loaded the version. Rejects with `model-unavailable` or `model-changed`. */
  async preload(version: ModelVersion): Promise<void> {
    this.#assertRunning();
    const key = keyOf(version);
    const threads = [...this.#threads.keys()].sort((one, other) => this.#cache.count(one) - this.#cache.count(other));
    const having = threads.filter((index) => this.#cache.has(key, index));
    const others = threads.filter((index) => !this.#cache.has(key, index));
    const wanted = [...having, ...others].slice(0, Math.max(having.length, version.manifest.instances));
    await Promise.all(wanted.map((index) => this.#occupy(version, index, async () => undefined)));
  }

  /** Frees a version that vanished from the repository, as soon as nothing of it runs. */
  release(version: ModelVersion): void {
    this.#cache.retire(version);
  }

  /** Threads that have something to run. */
  get busy(): number {
    return this.#threads.filter(({ inFlight }) => inFlight > 0).length;
  }

  /** Sessions on all threads. */
  get sessions(): number {
    return this.#threads.reduce((sum, _, index) => sum + this.#cache.count(index), 0);
  }

  /** Bytes of all sessions, estimated by their files. */
  get sessionBytes(): number {
    return this.#cache.bytes;
  }

  /** Takes nothing new, lets everything that it has taken finish, then ends the threads. */
  stop(): Promise<void> {
    this.#stopping ??= this.#end();
    return this.#stopping;
  }

  async #spawn(): Promise<void> {
    if (this.#stopping) throw new Error('the engine was stopped');
    const onDeath = (error: Error): void => {
      if (!this.#options.onThreadDeath) throw error;
      this.#options.onThreadDeath(error);
    };
    this.#threads = Array.from({ length: this.#options.threads }, (_, index) => (
      { host: new SessionHost(`inference-${index}`, onDeath), inFlight: 0, freeAt: 0 }
    ));
    await Promise.all(this.#threads.map(({ host }) => host.ready()));
  }

  async #end(): Promise<void> {
    await this.#starting?.catch(() => undefined);
    while (this.#work.size > 0) await Promise.allSettled(this.#work);
    await Promise.all(this.#threads.map(({ host }) => host.stop()));
  }

  #assertRunning(): void {
    if (this.#stopping) throw new Error('the engine was stopped');
    if (this.#threads.length === 0) throw new Error('the engine is not started');
  }

  #choose(version: ModelVersion): Choice | undefined {
    const key = keyOf(version);
    const threads = this.#threads.map(({ host, inFlight }, index) => (
      { inFlight, alive: host.alive, hasSession: this.#cache.has(key, index), sessions: this.#cache.count(index) }
    ));
    return choose(threads, version.manifest.instances);
  }

  #bestThread(version: ModelVersion): number {
    const choice = this.#choose(version);
    if (!choice) throw new MillraceError('internal', 'every inference thread died');
    return choice.thread;
  }

  /** Does work with a loaded session on a thread. Throws the MillraceError of a failed load. */
  async #occupy<Result>(
    version: ModelVersion,
    index: number,
    work: (session: CachedSession, thread: Thread) => Promise<Result>,
  ): Promise<Result> {
    const thread = this.#threads[index] as Thread;
    const session = this.#cache.use(version, index);
    thread.inFlight += 1;
    const result = session.loaded.then(() => work(session, thread)).finally(() => {
      this.#work.delete(result);
      thread.inFlight -= 1;
      this.#cache.done(session);
    });
    this.#work.add(result);
    return result;
  }

  async #load({ key, version, thread }: CachedSession): Promise<void> {
    const { id, path, manifest, batched } = version;
    const { threads, executionProviders } = manifest;
    const its = this.#threads[thread] as Thread;
    const reply = await its.host.load({ type: 'load', key, path, digest: id.digest, threads, executionProviders, batched });
    its.freeAt = performance.now();
    if (!reply.ok) throw new MillraceError(reply.code, reply.detail);
    this.#warn(reply.warnings, version);
    this.#options.onLoad?.({ version, thread, loadMs: reply.loadMs, providers: reply.providers, batched: reply.batched });
  }

  async #release({ key, version, thread }: CachedSession): Promise<void> {
    await this.#threads[thread]?.host.release(key);
    this.#options.onRelease?.({ version, thread });
  }

  #warn(warnings: readonly Warning[], { id }: ModelVersion): void {
    for (const { message, ...detail } of warnings) {
      this.#options.onWarning?.(message, { model: id.name, version: id.version, ...detail });
    }
  }
}
