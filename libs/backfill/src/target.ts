// Where the output goes: files appear under their final names whole.
import { randomBytes } from 'node:crypto';
import { access, mkdir, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { MillraceError } from '@millrace/protocol';
import { moveIntoPlace, writeAtomically } from './disk.ts';
import type { ObjectName, ObjectStore } from './object-store.ts';
import { locate, type Location } from './places.ts';

export interface OutputNames {
  readonly output: string;
  readonly errors: string;
  readonly manifest: string;
}

/** `out/scores.csv`, `out/scores.errors.ndjson` and `out/scores.manifest.json`. */
export function namesBeside(uri: string): OutputNames {
  const stem = uri.replace(/\.(csv|tsv|txt|ndjson|jsonl|json|parquet|pq)$/i, '');
  return { output: uri, errors: `${stem}.errors.ndjson`, manifest: `${stem}.manifest.json` };
}

function draftStem(path: string, id: string): string {
  return `.${basename(path)}.${id}.`;
}

const draftEnd = '.partial';

export class Target {
  readonly #objects: ObjectStore | undefined;
  readonly #scratchFolder: string;

  constructor({ objects, scratchFolder }: { readonly objects?: ObjectStore | undefined; readonly scratchFolder: string }) {
    this.#objects = objects;
    this.#scratchFolder = scratchFolder;
  }

  /**
   * A path to write to first: beside a file, so that a rename gives it its name; in the scratch folder for an object.
   * Another each time: a coordinator that has lost its lease may still be at its own.
   */
  async draft(uri: string, id: string): Promise<string> {
    const location = locate(uri);
    const hidden = (path: string): string => join(dirname(path), `${draftStem(path, id)}${randomBytes(6).toString('hex')}${draftEnd}`);
    if (location.kind === 'file') return hidden(location.path);
    await mkdir(this.#scratchFolder, { recursive: true });
    return hidden(join(this.#scratchFolder, basename(location.key)));
  }

  /** Removes what coordinators have left that were killed. */
  async removeDrafts(uri: string, id: string): Promise<void> {
    const location = locate(uri);
    if (location.kind === 'object') return;
    const folder = dirname(location.path);
    const left = (await readdir(folder)).filter((name) => name.startsWith(draftStem(location.path, id)) && name.endsWith(draftEnd));
    for (const name of left) await rm(join(folder, name), { force: true });
  }

  async publish(draft: string, uri: string): Promise<void> {
    const location = locate(uri);
    if (location.kind === 'file') await moveIntoPlace(draft, location.path);
    else await this.#store(location).writeFile(location, draft);
  }

  async publishText(text: string, uri: string): Promise<void> {
    const location = locate(uri);
    if (location.kind === 'file') await writeAtomically(location.path, text);
    else await this.#store(location).writeText(location, text);
  }

  async remove(uri: string): Promise<void> {
    const location = locate(uri);
    if (location.kind === 'file') await rm(location.path, { force: true });
    else await this.#store(location).remove(location);
  }

  /** Which of the names are taken. */
  async taken({ output, errors, manifest }: OutputNames): Promise<readonly string[]> {
    const found: string[] = [];
    for (const uri of [output, errors, manifest]) if (await this.#exists(locate(uri))) found.push(uri);
    return found;
  }

  async #exists(location: Location): Promise<boolean> {
    if (location.kind === 'object') return await this.#store(location).describe(location) !== undefined;
    return access(location.path).then(() => true, () => false);
  }

  #store({ bucket }: ObjectName): ObjectStore {
    if (!this.#objects) throw new MillraceError('invalid-backfill', `s3://${bucket}: no object store is configured`);
    return this.#objects;
  }
}

