// What workers read of the input itself: Parquet files where they lie, or as copies of objects, fetched once; and ranges of text.
import { mkdir, open, readFile, rm, writeFile } from 'node:fs/promises';
import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { MillraceError } from '@millrace/protocol';
import { besideOf, codeOf, storageFailure } from './disk.ts';
import type { ObjectStore } from './object-store.ts';
import { locate } from './places.ts';
import type { SourceFile, TextRange } from './plan.ts';
import { checkUnchanged } from './source.ts';
import type { LocalCopy } from './work-place.ts';

/** Where a chunk's rows are. `path` is good until `release`. */
export interface ChunkSource {
  bytes(): Promise<Buffer<ArrayBuffer>>;
  path(): Promise<string>;
  release(): Promise<void>;
}

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

  /** Of a local file. Its functions throw MillraceError `input-changed` where it is not the file that the backfill began with. */
  range(file: SourceFile, { firstByte, sizeBytes }: TextRange): ChunkSource {
    const bytes = async (): Promise<Buffer<ArrayBuffer>> => {
      await checkUnchanged(file);
      const read = await readRange(file, firstByte, sizeBytes);
      await checkUnchanged(file);
      return read;
    };
    let copy: string | undefined;
    return {
      bytes,
      path: async () => {
        copy ??= await this.#scratch('range', async (path) => writeFile(path, await bytes()));
        return copy;
      },
      release: async () => {
        if (copy !== undefined) await rm(copy, { force: true });
      },
    };
  }

  async close(): Promise<void> {
    for (const [name, held] of this.#held) await this.#drop(name, held);
  }

  async #download(file: SourceFile): Promise<string> {
    const location = locate(file.uri);
    const objects = this.#objects;
    if (location.kind === 'file' || !objects) throw new Error('only objects are downloaded');
    return this.#scratch('input.parquet', (path) => pipeline(objects.read(location, { etag: file.version }), createWriteStream(path)));
  }

  /** The path of a new file. */
  async #scratch(name: string, write: (path: string) => Promise<void>): Promise<string> {
    const path = besideOf(join(this.#scratchFolder, name));
    try {
      await mkdir(this.#scratchFolder, { recursive: true });
      await write(path);
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

/** A file that holds the chunk, and nothing else where it is text. */
export function wholeFile(copy: LocalCopy): ChunkSource {
  return { bytes: () => readFile(copy.path), path: async () => copy.path, release: () => copy.release() };
}

async function readRange({ uri }: SourceFile, firstByte: number, sizeBytes: number): Promise<Buffer<ArrayBuffer>> {
  try {
    const file = await open(uri, 'r');
    try {
      const buffer = Buffer.allocUnsafeSlow(sizeBytes);
      for (let at = 0; at < sizeBytes;) {
        const { bytesRead } = await file.read(buffer, at, sizeBytes - at, firstByte + at);
        if (bytesRead === 0) throw new MillraceError('input-changed', `${uri} ends before byte ${firstByte + sizeBytes}`);
        at += bytesRead;
      }
      return buffer;
    } finally {
      await file.close();
    }
  } catch (error) {
    if (codeOf(error) === 'ENOENT') throw new MillraceError('input-changed', `${uri} is gone`, { cause: error });
    throw storageFailure(uri, error);
  }
}
