// Which sessions the inference threads hold, within a bound on memory.
// A session counts with the size of its file: ONNX Runtime does not say what it takes, and weights dominate.
import { MillraceError } from '@millrace/protocol';
import type { ModelVersion } from '@millrace/models';

export interface CachedSession {
  readonly key: string;
  readonly version: ModelVersion;
  readonly thread: number;
  /** Rejects with the MillraceError of a failed load. */
  readonly loaded: Promise<void>;
}

interface Entry extends CachedSession {
  loaded: Promise<void>;
  /** Micro-batches in flight. Never 0 before it is loaded. */
  users: number;
  /** Grows with every use: the least is the least recently used. */
  usedAt: number;
  /** Its version is gone: it is freed when idle. */
  retired: boolean;
}

export interface CacheOptions {
  readonly threads: number;
  readonly maxBytes: number;
  readonly load: (session: CachedSession) => Promise<void>;
  /** Resolves when the memory is free. */
  readonly release: (session: CachedSession) => Promise<void>;
  /** Called when no load waits for memory any more, though one had to. */
  readonly onAdmitted: () => void;
}

/**
 * The sessions by thread and version. One load for all who want it; before a load, the least recently used idle sessions
 * are released until it fits, and while too few are idle it waits, in order of arrival.
 */
export class SessionCache {
  readonly #options: CacheOptions;
  readonly #threads: readonly Map<string, Entry>[];
  readonly #waiting: { readonly bytes: number; readonly admit: () => void }[] = [];
  #bytes = 0;
  #freeingBytes = 0;
  #uses = 0;

  constructor(options: CacheOptions) {
    this.#options = options;
    this.#threads = Array.from({ length: options.threads }, () => new Map());
  }

  /** Bytes of all sessions, of those being loaded and of those not yet released. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Loads that wait for memory. */
  get waiting(): number {
    return this.#waiting.length;
  }

  count(thread: number): number {
    return this.#on(thread).size;
  }

  has(key: string, thread: number): boolean {
    return this.#on(thread).has(key);
  }

  /** Takes a session into use, loading it where need be. Throws MillraceError where it can never fit. */
  use(version: ModelVersion, thread: number): CachedSession {
    const present = this.#on(thread).get(keyOf(version));
    const entry = present ?? this.#enter(version, thread);
    entry.users += 1;
    entry.usedAt = ++this.#uses;
    // Only now: one without users could be evicted for its own sake.
    if (!present) entry.loaded = this.#load(entry);
    return entry;
  }

  /** Gives back what `use` gave. */
  done(session: CachedSession): void {
    const entry = session as Entry;
    entry.users -= 1;
    if (entry.users > 0) return;
    if (entry.retired && this.#holds(entry)) this.#free(entry);
    this.#admit();
  }

  /** Frees the sessions of a version that is gone, as soon as they are idle. */
  retire(version: ModelVersion): void {
    for (const sessions of this.#threads) {
      const entry = sessions.get(keyOf(version));
      if (!entry) continue;
      entry.retired = true;
      if (entry.users === 0) this.#free(entry);
    }
  }

  #enter(version: ModelVersion, thread: number): Entry {
    const { maxBytes } = this.#options;
    if (version.sizeBytes > maxBytes) {
      throw new MillraceError(
        'model-unavailable',
        `the model takes ${version.sizeBytes} bytes, and all sessions of a worker together may take ${maxBytes}`,
      );
    }
    const entry: Entry = {
      key: keyOf(version), version, thread, loaded: Promise.resolve(), users: 0, usedAt: 0, retired: false,
    };
    this.#on(thread).set(entry.key, entry);
    return entry;
  }

  async #load(entry: Entry): Promise<void> {
    const { promise: admitted, resolve: admit } = Promise.withResolvers<void>();
    this.#waiting.push({ bytes: entry.version.sizeBytes, admit });
    this.#admit();
    const waits = this.#waiting.length > 0;
    await admitted;
    if (waits && this.#waiting.length === 0) this.#options.onAdmitted();
    try {
      await this.#options.load(entry);
    } catch (error) {
      this.#on(entry.thread).delete(entry.key);
      this.#bytes -= entry.version.sizeBytes;
      this.#admit();
      throw error;
    }
  }

  #admit(): void {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      const excess = this.#bytes + next.bytes - this.#options.maxBytes;
      if (excess > 0) return this.#evict(excess - this.#freeingBytes);
      this.#waiting.shift();
      this.#bytes += next.bytes;
      next.admit();
    }
  }

  #evict(bytes: number): void {
    const idle = this.#threads.flatMap((sessions) => [...sessions.values()].filter(({ users }) => users === 0));
    idle.sort((one, other) => one.usedAt - other.usedAt);
    let missing = bytes;
    for (const entry of idle) {
      if (missing <= 0) return;
      missing -= entry.version.sizeBytes;
      this.#free(entry);
    }
  }

  #free(entry: Entry): void {
    const { sizeBytes } = entry.version;
    this.#on(entry.thread).delete(entry.key);
    this.#freeingBytes += sizeBytes;
    // A thread that died took its sessions along.
    void this.#options.release(entry).catch(() => undefined).then(() => {
      this.#freeingBytes -= sizeBytes;
      this.#bytes -= sizeBytes;
      this.#admit();
    });
  }

  #holds(entry: Entry): boolean {
    return this.#on(entry.thread).get(entry.key) === entry;
  }

  #on(thread: number): Map<string, Entry> {
    const sessions = this.#threads[thread];
    if (!sessions) throw new Error(`there is no inference thread ${thread}`);
    return sessions;
  }
}

/** By digest, too: a version whose file was replaced is another model. */
export function keyOf({ id }: ModelVersion): string {
  return `${id.name}@${id.version}#${id.digest}`;
}
