// The folder of models: <name>/<version>/model.onnx and, for all versions of a model, <name>/model.yaml.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readFile, readdir, realpath } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { isBatched, modelNamePattern } from '@millrace/protocol';
import type { ModelRef, ModelVersionId } from '@millrace/protocol';
import { Catalog, changeBetween } from './catalog.ts';
import type { RepositoryChange } from './catalog.ts';
import { FileMemory, codeOf } from './file-memory.ts';
import { defaultManifest, readManifest } from './manifest.ts';
import type { Manifest, Model, ModelVersion, RefusedVersion } from './model.ts';
import { ModelRefused } from './model-refused.ts';
import { readOnnxHeader } from './onnx-header.ts';

type ModelFile = Pick<ModelVersion, 'sizeBytes' | 'signature' | 'batched'> & { readonly digest: string };

export class ModelRepository {
  readonly #folder: string;
  readonly #onChange: ((change: RepositoryChange) => void) | undefined;
  readonly #files = new FileMemory<ModelFile>(readModelFile);
  readonly #manifests = new FileMemory<Manifest>(readManifestFile);
  #catalog = new Catalog([]);
  #scanning: Promise<void> | undefined;

  constructor(folder: string, options: { onChange?: (change: RepositoryChange) => void } = {}) {
    this.#folder = resolve(folder);
    this.#onChange = options.onChange;
  }

  /**
   * Reads what changed since the last scan, then shows all of it at once. A call during a scan shares that scan.
   * Throws a plain Error where a folder cannot be read; the models of the last scan stay.
   */
  scan(): Promise<void> {
    this.#scanning ??= this.#scan().finally(() => {
      this.#scanning = undefined;
    });
    return this.#scanning;
  }

  /** Scans every `intervalMs`, counted from the end of one scan to the start of the next, until aborted. */
  async watch(intervalMs: number, signal: AbortSignal, onError: (error: unknown) => void): Promise<void> {
    while (await passed(intervalMs, signal)) await this.scan().catch(onError);
  }

  /** By name; models without any version are left out. */
  get models(): readonly Model[] {
    return this.#catalog.models;
  }

  model(name: string): Model | undefined {
    return this.#catalog.model(name);
  }

  /** The version of that name and number. Its digest may be another than the one in `id`: the caller compares. */
  find(id: ModelVersionId): ModelVersion | undefined {
    return this.#catalog.find(id);
  }

  /** The version that is meant: the newest one where `ref` names none. Throws MillraceError `unknown-model`, saying what there is. */
  resolve(ref: ModelRef): ModelVersion {
    return this.#catalog.resolve(ref);
  }

  /** As `resolve`, from the text of a request; a text seen before costs one look into a map. */
  resolveText(text: string): ModelVersion {
    return this.#catalog.resolveText(text);
  }

  async #scan(): Promise<void> {
    const root = await this.#root();
    const models: Model[] = [];
    for (const name of await subfolders(root, isModelName) ?? unreadable(root)) {
      const model = await this.#readModel(name, root);
      if (model.versions.length + model.refused.length > 0) models.push(model);
    }
    // A folder that was unmounted meanwhile looked empty, but its models have not been withdrawn.
    await this.#root();
    this.#files.forgetOthers();
    this.#manifests.forgetOthers();
    const before = this.#catalog;
    this.#catalog = new Catalog(models);
    const change = changeBetween(before, this.#catalog);
    if (change) this.#onChange?.(change);
  }

  async #root(): Promise<string> {
    return realpath(this.#folder).catch((error: unknown) => unreadable(this.#folder, error));
  }

  async #readModel(name: string, root: string): Promise<Model> {
    const reading = await this.#manifests.read(join(this.#folder, name, 'model.yaml'), root) ?? { content: defaultManifest };
    const manifest = 'content' in reading ? reading.content : defaultManifest;
    const versions: ModelVersion[] = [];
    const refused: RefusedVersion[] = [];
    const folders = await subfolders(join(this.#folder, name), isVersion) ?? [];
    for (const version of folders.map(Number).sort((a, b) => b - a)) {
      const path = join(this.#folder, name, String(version), 'model.onnx');
      const file = await this.#files.read(path, root);
      if (!file) continue;
      // Never run under the defaults what its owner wanted run otherwise.
      if ('refused' in reading) refused.push({ version, reason: reading.refused });
      else if ('refused' in file) refused.push({ version, reason: file.refused });
      else versions.push(versionOf({ name, version }, path, file.content, manifest));
    }
    return { name, manifest, versions, refused };
  }
}

function versionOf(id: Omit<ModelVersionId, 'digest'>, path: string, { digest, ...file }: ModelFile, manifest: Manifest): ModelVersion {
  return { id: { ...id, digest }, path, ...file, manifest };
}

/** The header first: what it refuses is not worth hashing. */
async function readModelFile(path: string, sizeBytes: number): Promise<ModelFile> {
  const { signature } = await readOnnxHeader(path);
  return { digest: await digestOf(path), sizeBytes, signature, batched: isBatched(signature) };
}

async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

/** Room for 45,000 labels; the YAML parser takes about half a second for them, on the thread that answers requests. */
const maxManifestBytes = 1024 * 1024;

async function readManifestFile(path: string, sizeBytes: number): Promise<Manifest> {
  if (sizeBytes > maxManifestBytes) throw new ModelRefused(`model.yaml has ${sizeBytes} bytes, more than ${maxManifestBytes}`);
  return readManifest(await readFile(path, 'utf8'));
}

const namePattern = new RegExp(modelNamePattern);

function isModelName(name: string): boolean {
  return namePattern.test(name) && !name.includes('..');
}

function isVersion(name: string): boolean {
  return /^[1-9][0-9]{0,8}$/.test(name);
}

/** Undefined where there is no such folder (any more). Links may lead to folders; files are checked to lie inside. */
async function subfolders(folder: string, accepts: (name: string) => boolean): Promise<string[] | undefined> {
  try {
    const entries = await readdir(folder, { withFileTypes: true });
    return entries
      .filter((entry) => (entry.isDirectory() || entry.isSymbolicLink()) && accepts(entry.name))
      .map(({ name }) => name)
      .sort();
  } catch (error) {
    return ['ENOENT', 'ENOTDIR', 'ELOOP'].includes(codeOf(error)) ? undefined : unreadable(folder, error);
  }
}

function unreadable(folder: string, cause?: unknown): never {
  const code = cause === undefined ? 'ENOENT' : codeOf(cause);
  throw new Error(`the model repository cannot be read at ${folder}: ${code === 'ENOENT' ? 'there is no such folder' : code}`, { cause });
}

async function passed(delayMs: number, signal: AbortSignal): Promise<boolean> {
  try {
    await wait(delayMs, undefined, { signal, ref: false });
    return true;
  } catch {
    return false; // Aborted; nothing else ends this wait early.
  }
}
