// The models of one scan, and what a reference means among them. Never changed: a new scan makes a new catalog.
import { isDeepStrictEqual } from 'node:util';
import { MillraceError, parseModelRef } from '@millrace/protocol';
import type { ModelRef, ModelVersionId } from '@millrace/protocol';
import type { Model, ModelVersion, RefusedVersion } from './model.ts';

/** What a scan found different from the one before. */
export interface RepositoryChange {
  /** A version whose file or manifest changed stands in both: as it is in `added`, as it was in `removed`. */
  readonly added: readonly ModelVersion[];
  readonly removed: readonly ModelVersion[];
  /** Newly refused, or for another reason than before. */
  readonly refused: readonly (RefusedVersion & { readonly name: string })[];
  /** Models whose aliases moved; nothing has to be loaded anew for that. */
  readonly realiased: readonly Model[];
}

export class Catalog {
  /** By name. */
  readonly models: readonly Model[];
  readonly #byName: ReadonlyMap<string, Model>;
  /** Only references that are good are kept, so there are never more than names, versions and aliases together. */
  readonly #resolved = new Map<string, ModelVersion>();

  constructor(models: readonly Model[]) {
    this.models = models;
    this.#byName = new Map(models.map((model) => [model.name, model]));
  }

  model(name: string): Model | undefined {
    return this.#byName.get(name);
  }

  find({ name, version }: Pick<ModelVersionId, 'name' | 'version'>): ModelVersion | undefined {
    return this.#byName.get(name)?.versions.find(({ id }) => id.version === version);
  }

  resolveText(text: string): ModelVersion {
    const known = this.#resolved.get(text);
    if (known) return known;
    const ref = parseModelRef(text);
    if (!ref) throw unknownModel('a model is named as name, name@version or name@alias');
    const version = this.resolve(ref);
    this.#resolved.set(text, version);
    return version;
  }

  resolve({ name, version, alias }: ModelRef): ModelVersion {
    const model = this.#byName.get(name);
    if (!model) throw unknownModel(`there is no model "${name}"; ${listed('models', this.models.map((one) => one.name))}`);
    if (alias !== undefined) return resolveAlias(model, alias);
    if (version !== undefined) return resolveVersion(model, version, '');
    const [newest] = model.versions;
    const [refused] = model.refused;
    if (!newest) throw unknownModel(`no version of "${name}" can be run; version ${refused?.version}: ${refused?.reason}`);
    return newest;
  }
}

function resolveAlias(model: Model, alias: string): ModelVersion {
  const { aliases } = model.manifest;
  const version = Object.hasOwn(aliases, alias) ? aliases[alias] : undefined;
  if (version === undefined) throw unknownModel(`"${model.name}" has no alias "${alias}"; ${listed('aliases', Object.keys(aliases))}`);
  return resolveVersion(model, version, `the alias "${alias}" points at version ${version}, but `);
}

function resolveVersion(model: Model, version: number, preface: string): ModelVersion {
  const found = model.versions.find(({ id }) => id.version === version);
  if (found) return found;
  const refused = model.refused.find((one) => one.version === version);
  if (refused) throw unknownModel(`${preface}version ${version} of "${model.name}" cannot be run: ${refused.reason}`);
  const versions = model.versions.map(({ id }) => String(id.version));
  throw unknownModel(`${preface}"${model.name}" has no version ${version}; ${listed('versions that can be run', versions)}`);
}

function unknownModel(detail: string): MillraceError {
  return new MillraceError('unknown-model', detail);
}

const maxListed = 10;

function listed(what: string, names: readonly string[]): string {
  const more = names.length - maxListed;
  const shown = names.slice(0, maxListed).join(', ') || 'none';
  return `${what}: ${shown}${more > 0 ? ` and ${more} more` : ''}`;
}

/** Undefined where both catalogs say the same. */
export function changeBetween(before: Catalog, after: Catalog): RepositoryChange | undefined {
  const change: RepositoryChange = {
    added: versionsOf(after).filter((version) => !runsAlike(version, before.find(version.id))),
    removed: versionsOf(before).filter((version) => !runsAlike(version, after.find(version.id))),
    refused: after.models.flatMap(({ name, refused }) => refused
      .filter((one) => !before.model(name)?.refused.some((other) => isDeepStrictEqual(one, other)))
      .map((one) => ({ name, ...one }))),
    realiased: after.models.filter(({ name, manifest }) => {
      const known = before.model(name);
      return known !== undefined && !isDeepStrictEqual(known.manifest.aliases, manifest.aliases);
    }),
  };
  return Object.values(change).some((list) => list.length > 0) ? change : undefined;
}

function versionsOf(catalog: Catalog): ModelVersion[] {
  return catalog.models.flatMap(({ versions }) => versions);
}

function runsAlike(version: ModelVersion, other: ModelVersion | undefined): boolean {
  if (version.id.digest !== other?.id.digest) return false;
  const { aliases: _, ...manifest } = version.manifest;
  const { aliases: __, ...otherManifest } = other.manifest;
  return isDeepStrictEqual(manifest, otherManifest);
}
