// Files of the repository, read once and then again only when they changed.
import { lstat, realpath, stat } from 'node:fs/promises';
import { basename, sep } from 'node:path';
import { ModelRefused } from './model-refused.ts';

export type Reading<Content> = { readonly content: Content } | { readonly refused: string };

interface Remembered<Content> {
  readonly stamp: string;
  readonly reading: Reading<Content>;
}

export class FileMemory<Content> {
  readonly #read: (path: string, sizeBytes: number) => Promise<Content>;
  #before = new Map<string, Remembered<Content>>();
  #now = new Map<string, Remembered<Content>>();

  /** What `read` refuses by ModelRefused is remembered too; what it cannot read is tried again every time. */
  constructor(read: (path: string, sizeBytes: number) => Promise<Content>) {
    this.#read = read;
  }

  /** The file at `path`, which must lie below the real path `root`; undefined where there is none. */
  async read(path: string, root: string): Promise<Reading<Content> | undefined> {
    const name = basename(path);
    try {
      const file = await realpath(path);
      // Mounts of Kubernetes are made of links inside the folder; a link out of it could show any file of the machine.
      const inside = file.startsWith(root.endsWith(sep) ? root : root + sep);
      return inside ? await this.#readIfChanged(path, file) : { refused: `${name} is a link to outside of the repository` };
    } catch (error) {
      const code = codeOf(error);
      if (code === 'ENOTDIR') return undefined;
      if (code !== 'ENOENT') return { refused: `${name} cannot be read (${code})` };
      return await isLink(path) ? { refused: `${name} is a link to nothing` } : undefined;
    }
  }

  async #readIfChanged(path: string, file: string): Promise<Reading<Content>> {
    const { stamp, sizeBytes, regular } = await inspect(file);
    if (!regular) return { refused: `${basename(path)} is not a regular file` };
    const known = this.#now.get(path) ?? this.#before.get(path);
    if (known?.stamp === stamp) {
      this.#now.set(path, known);
      return known.reading;
    }
    const reading = await this.#readOrRefuse(file, sizeBytes);
    if ((await inspect(file)).stamp !== stamp) return { refused: `${basename(path)} changed while it was read; the next scan reads it again` };
    this.#now.set(path, { stamp, reading });
    return reading;
  }

  async #readOrRefuse(file: string, sizeBytes: number): Promise<Reading<Content>> {
    try {
      return { content: await this.#read(file, sizeBytes) };
    } catch (error) {
      if (error instanceof ModelRefused) return { refused: error.message };
      throw error;
    }
  }

  /** Forgets the files that nobody has read since the last call. */
  forgetOthers(): void {
    this.#before = this.#now;
    this.#now = new Map();
  }
}

/** The time of the last change is part of the stamp because copies may keep their original's time of modification. */
async function inspect(file: string): Promise<{ stamp: string; sizeBytes: number; regular: boolean }> {
  const stats = await stat(file, { bigint: true });
  return {
    stamp: [stats.ino, stats.size, stats.mtimeNs, stats.ctimeNs].join(' '),
    sizeBytes: Number(stats.size),
    regular: stats.isFile(),
  };
}

async function isLink(path: string): Promise<boolean> {
  return lstat(path).then((stats) => stats.isSymbolicLink(), () => false);
}

/** The code of a file system's error; anything else is a bug and thrown on. */
export function codeOf(error: unknown): string {
  if (error instanceof Error && 'code' in error && 'syscall' in error) return String(error.code);
  throw error;
}
