// The input's Parquet files as paths: where they lie, or as copies of objects, fetched once.
import { mkdir, rm } from 'node:fs/promises';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { besideOf, storageFailure } from './disk.ts';
import type { ObjectStore } from './object-store.ts';
import { locate } from './places.ts';
import type { SourceFile } from './plan.ts';
import { checkUnchanged } from './source.ts';
import type { LocalCopy } from './work-place.ts';

interface Held {
  readonly path: Promise<string>;
  users: number;
}

/** Chunks come file after file: one copy in use and one that just was are enough. */
const unusedCopies = 1;

export class LocalInputs {
  readonly #scratchFolder: string;
  readonly #objects: ObjectStore | undefined;
  /** By URI and version, the last used last. */
  readonly #held = new Map<string, Held>();

  constructor({ scratchFolder, objects }: { readonly scratchFolder: string; readonly objects?: ObjectStore | undefined }) {
    this.#scratchFolder = scratchFolder;
    this.#objects = objects;
  }

  /** Throws MillraceError `input-changed` where it is not the file that the backfill began with. */
  async open(file: SourceFile): Promise<LocalCopy> {
    const location = locate(file.uri);
    if (location.kind === 'file') {
      await checkUnchanged(file);
      return { path: location.path, release: async () => undefined };
    }
    const name = `${file.uri} ${file.version}`;
    const held = this.#held.get(name) ?? { path: this.#download(file), users: 0 };
    held.users++;
    this.#held.delete(name);
    this.#held.set(name, held);
    try {
      return { path: await held.path, release: () => this.#release(held) };
    } catch (error) {
      this.#held.delete(name);
      throw error;
    }
  }

  /** A local file may have been written to while it was read; a copy was not. */
  async checkUnchanged(file: SourceFile): Promise<void> {
    if (locate(file.uri).kind === 'file') await checkUnchanged(file);
  }

  async close(): Promise<void> {
    for (const [name, held] of this.#held) await this.#drop(name, held);
  }

  async #download(file: SourceFile): Promise<string> {
    const location = locate(file.uri);
    if (location.kind === 'file' || !this.#objects) throw new Error('only objects are downloaded');
    const path = besideOf(join(this.#scratchFolder, 'input.parquet'));
    try {
      await mkdir(this.#scratchFolder, { recursive: true });
      await pipeline(this.#objects.read(location, { etag: file.version }), createWriteStream(path));
      return path;
    } catch (error) {
      await rm(path, { force: true });
      throw storageFailure(path, error);
    }
  }

  async #release(held: Held): Promise<void> {
    held.users--;
    const unused = [...this.#held].filter(([, { users }]) => users === 0);
    for (const [name, copy] of unused.slice(0, -unusedCopies)) await this.#drop(name, copy);
  }

  async #drop(name: string, { path }: Held): Promise<void> {
    this.#held.delete(name);
    await path.then((file) => rm(file, { force: true }), () => undefined);
  }
}
