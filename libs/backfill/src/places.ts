// Where backfills may read and write. A path from the API reaches nothing outside these places, whatever it is made of.
import { realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MillraceError } from '@millrace/protocol';

export interface PlacesOptions {
  /** Folders, and `s3://bucket/prefix`. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
}

export type Location =
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'object'; readonly bucket: string; readonly key: string };

export class Places {
  readonly #inputs: readonly string[];
  readonly #outputs: readonly string[];

  constructor({ inputs, outputs }: PlacesOptions) {
    this.#inputs = inputs;
    this.#outputs = outputs;
  }

  /** Everything that this user of the machine can reach: for a command line, where no one else decides the paths. */
  static readonly anywhere = new Places({ inputs: ['/', 's3://'], outputs: ['/', 's3://'] });

  /** Whether an input, a glob or not, lies inside. Its files are asked again, one by one, when they are known. */
  input(uri: string): Location {
    const location = locate(uri);
    if (location.kind === 'object' || !hasParentStep(uri)) return checked(location, this.#inputs, uri);
    throw outside(uri);
  }

  /** Whether a path that a glob has found lies inside by its name: there is more than one way to write `..` in a glob. */
  isInput(path: string): boolean {
    return isBelowFolder(path, this.#inputs);
  }

  /** A file that is meant by `uri`, with its links followed. */
  async inputFile(path: string, uri: string): Promise<void> {
    if (!await isBelow(await realpath(path), this.#inputs)) throw outside(uri);
  }

  /** Whether an output's name lies inside. */
  outputName(uri: string): Location {
    return checked(locate(uri), this.#outputs, uri);
  }

  /** Whether an output may be written: its folder, with links followed, lies inside. */
  async output(uri: string): Promise<Location> {
    const location = this.outputName(uri);
    if (location.kind === 'object') return location;
    const name = basename(location.path);
    if (name === '' || uri.endsWith('/')) throw new MillraceError('invalid-backfill', `${uri} is a folder: name the file`);
    const folder = await realpath(dirname(location.path)).catch(() => undefined);
    if (folder === undefined) throw new MillraceError('storage-unavailable', `${dirname(location.path)}: there is no such folder`);
    if (!await isBelow(join(folder, name), this.#outputs)) throw outside(uri);
    return { kind: 'file', path: join(folder, name) };
  }
}

/** Reads a URI: a path, `file:///path` or `s3://bucket/key`. */
export function locate(uri: string): Location {
  if (uri.startsWith('s3://')) {
    const [, bucket = '', key = ''] = /^s3:\/\/([^/]*)\/?(.*)$/s.exec(uri) ?? [];
    const steps = key.split('/');
    if (!/^[a-z0-9][a-z0-9.-]{1,62}$/.test(bucket) || key === '' || steps.includes('..') || steps.includes('.')) {
      throw new MillraceError('invalid-backfill', `${uri} is not s3://bucket/key`);
    }
    return { kind: 'object', bucket, key };
  }
  if (uri.includes('\0')) throw new MillraceError('invalid-backfill', 'a path has no NUL');
  if (uri.startsWith('file://')) return { kind: 'file', path: fileOfUrl(uri) };
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(uri)) throw new MillraceError('invalid-backfill', `${uri} is neither a path nor s3://bucket/key`);
  return { kind: 'file', path: resolve(uri) };
}

function fileOfUrl(uri: string): string {
  try {
    return fileURLToPath(uri);
  } catch (cause) {
    throw new MillraceError('invalid-backfill', `${uri} is no path of this machine`, { cause });
  }
}

function hasParentStep(uri: string): boolean {
  return uri.split(/[/\\{},]/).includes('..');
}

function checked(location: Location, roots: readonly string[], uri: string): Location {
  const inside = location.kind === 'object'
    ? roots.some((root) => isBelowPrefix(location, root))
    : isBelowFolder(location.path, roots);
  if (!inside) throw outside(uri);
  return location;
}

function isBelowFolder(path: string, roots: readonly string[]): boolean {
  return roots.some((root) => !root.startsWith('s3://') && contains(resolve(root), path));
}

function isBelowPrefix({ bucket, key }: { readonly bucket: string; readonly key: string }, root: string): boolean {
  if (root === 's3://') return true;
  const prefix = root.endsWith('/') ? root : `${root}/`;
  return root.startsWith('s3://') && `s3://${bucket}/${key}`.startsWith(prefix);
}

async function isBelow(realPath: string, roots: readonly string[]): Promise<boolean> {
  for (const root of roots) {
    if (root.startsWith('s3://')) continue;
    const real = await realpath(root).catch(() => undefined);
    if (real !== undefined && contains(real, realPath)) return true;
  }
  return false;
}

function contains(folder: string, path: string): boolean {
  return path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

function outside(uri: string): MillraceError {
  return new MillraceError('place-not-allowed', `${uri} lies outside the places that are allowed for it`);
}
