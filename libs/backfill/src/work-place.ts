// The folder of one backfill, which its coordinator and its workers share: on a disk that all of them see, or in a bucket.
import { createWriteStream } from 'node:fs';
import { link, mkdir, readFile, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { besideOf, codeOf, moveIntoPlace, storageFailure, syncFolder, writeAtomically } from './disk.ts';
import type { ObjectName, ObjectStore } from './object-store.ts';

/** Names are relative, with slashes. Every write is whole or not there. Throws MillraceError `storage-unavailable`. */
export interface WorkPlace {
  /** The names in a folder, sorted; none where there is no such folder. */
  list(folder: string): Promise<string[]>;
  /** Undefined where there is no such name. */
  readText(name: string): Promise<string | undefined>;
  /** Replaces what is there. */
  writeText(name: string, text: string): Promise<void>;
  /** False, and nothing is written, where the name is taken. */
  writeFirst(name: string, text: string): Promise<boolean>;
  /** A path where a new file may be made that `put` then takes. */
  newFile(name: string): Promise<string>;
  /** Gives a finished local file, made by `newFile`, its name. */
  put(name: string, path: string): Promise<void>;
  /** A path to read it from, good until `release`. */
  fetch(name: string): Promise<LocalCopy>;
  remove(names: readonly string[]): Promise<void>;
  /** Removes everything. */
  clear(): Promise<void>;
}

export interface LocalCopy {
  readonly path: string;
  release(): Promise<void>;
}

const readsAtOnce = 32;

/** The texts of these names, in their order; undefined where one is not there. */
export async function readTexts(work: WorkPlace, names: readonly string[]): Promise<readonly (string | undefined)[]> {
  const texts: (string | undefined)[] = [];
  for (let from = 0; from < names.length; from += readsAtOnce) {
    texts.push(...await Promise.all(names.slice(from, from + readsAtOnce).map((name) => work.readText(name))));
  }
  return texts;
}

export class WorkFolder implements WorkPlace {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  async list(folder: string): Promise<string[]> {
    const path = join(this.path, folder);
    try {
      return (await readdir(path)).filter((name) => !name.startsWith('.')).sort();
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return [];
      throw storageFailure(path, error);
    }
  }

  async readText(name: string): Promise<string | undefined> {
    const path = join(this.path, name);
    try {
      return await readFile(path, 'utf8');
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined;
      throw storageFailure(path, error);
    }
  }

  async writeText(name: string, text: string): Promise<void> {
    await this.#folderOf(name);
    await writeAtomically(join(this.path, name), text);
  }

  async writeFirst(name: string, text: string): Promise<boolean> {
    const path = join(this.path, name);
    const beside = await this.newFile(name);
    await writeAtomically(beside, text);
    try {
      // Unlike a rename, a link fails where somebody was first.
      await link(beside, path);
      await syncFolder(dirname(path));
      return true;
    } catch (error) {
      if (codeOf(error) === 'EEXIST') return false;
      throw storageFailure(path, error);
    } finally {
      await rm(beside, { force: true });
    }
  }

  async newFile(name: string): Promise<string> {
    await this.#folderOf(name);
    return besideOf(join(this.path, name));
  }

  async put(name: string, path: string): Promise<void> {
    await moveIntoPlace(path, join(this.path, name));
  }

  async fetch(name: string): Promise<LocalCopy> {
    return { path: join(this.path, name), release: async () => undefined };
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) await rm(join(this.path, name), { force: true });
  }

  async clear(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }

  async #folderOf(name: string): Promise<void> {
    const folder = dirname(join(this.path, name));
    await mkdir(folder, { recursive: true }).catch((error: unknown) => {
      throw storageFailure(folder, error);
    });
  }
}

/** Names below a prefix of a bucket; files that DuckDB reads or writes pass through a local folder. */
export class WorkBucket implements WorkPlace {
  readonly #objects: ObjectStore;
  readonly #bucket: string;
  readonly #prefix: string;
  readonly #scratch: WorkFolder;

  constructor({ objects, bucket, prefix, scratchFolder }: { readonly objects: ObjectStore; readonly bucket: string; readonly prefix: string; readonly scratchFolder: string }) {
    this.#objects = objects;
    this.#bucket = bucket;
    this.#prefix = prefix.endsWith('/') ? prefix : `${prefix}/`;
    this.#scratch = new WorkFolder(scratchFolder);
  }

  #name(name: string): ObjectName {
    return { bucket: this.#bucket, key: this.#prefix + name };
  }

  async list(folder: string): Promise<string[]> {
    const { key } = this.#name(`${folder}/`);
    return (await this.#objects.list(this.#name(`${folder}/`))).map((object) => object.key.slice(key.length)).sort();
  }

  readText(name: string): Promise<string | undefined> {
    return this.#objects.readText(this.#name(name));
  }

  writeText(name: string, text: string): Promise<void> {
    return this.#objects.writeText(this.#name(name), text);
  }

  writeFirst(name: string, text: string): Promise<boolean> {
    return this.#objects.writeFirst(this.#name(name), text);
  }

  newFile(name: string): Promise<string> {
    return this.#scratch.newFile(name);
  }

  async put(name: string, path: string): Promise<void> {
    await this.#objects.writeFile(this.#name(name), path);
    await rm(path, { force: true });
  }

  async fetch(name: string): Promise<LocalCopy> {
    const path = await this.#scratch.newFile(name);
    const release = (): Promise<void> => rm(path, { force: true });
    try {
      await pipeline(this.#objects.read(this.#name(name)), createWriteStream(path));
      return { path, release };
    } catch (error) {
      await release();
      throw storageFailure(path, error);
    }
  }

  async remove(names: readonly string[]): Promise<void> {
    for (const name of names) await this.#objects.remove(this.#name(name));
  }

  async clear(): Promise<void> {
    const { bucket, key } = this.#name('');
    for (const object of await this.#objects.list({ bucket, key })) await this.#objects.remove({ bucket, key: object.key });
  }
}
