import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, link, mkdir, mkdtemp, readFile, realpath, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RepositoryChange } from './catalog.ts';
import { ModelRepository } from './repository.ts';

const root = join(import.meta.dirname, '../../..');
const iris = join(root, 'deploy/models/iris/1/model.onnx');
const digits = join(root, 'deploy/models/digits/1/model.onnx');

let folder: string;
let changes: RepositoryChange[];
let repository: ModelRepository;

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'millrace-models-')));
  changes = [];
  repository = new ModelRepository(folder, { onChange: (change) => changes.push(change) });
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function put(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(join(folder, path)), { recursive: true });
  await writeFile(join(folder, path), content);
}

/** As a deployment should: the file appears whole. */
async function publish(path: string, source: string): Promise<void> {
  await put('.new', await readFile(source));
  await mkdir(dirname(join(folder, path)), { recursive: true });
  await rename(join(folder, '.new'), join(folder, path));
}

const reasons = (name: string) => repository.model(name)?.refused.map(({ version, reason }) => `${version}: ${reason}`);

test('offers what the folder has: models by name, versions newest first', async () => {
  await publish('iris/2/model.onnx', iris);
  await publish('iris/10/model.onnx', iris);
  await publish('digits/1/model.onnx', digits);
  await put('digits/model.yaml', 'labels: [0, 1]');
  await repository.scan();
  expect(repository.models.map(({ name }) => name)).toEqual(['digits', 'iris']);
  expect(repository.model('iris')?.versions.map(({ id }) => id.version)).toEqual([10, 2]);
  expect(repository.model('digits')?.versions[0]).toMatchObject({
    id: { name: 'digits', version: 1, digest: createHash('sha256').update(await readFile(digits)).digest('hex') },
    path: join(folder, 'digits/1/model.onnx'),
    sizeBytes: (await readFile(digits)).length,
    batched: true,
    manifest: { pool: 'default', labels: ['0', '1'] },
  });
});

test('passes over what is no model', async () => {
  for (const path of ['Iris/1', 'a..b/1', 'iris/01', 'iris/0', 'iris/latest', 'iris/1234567890', '.git/1']) await publish(`${path}/model.onnx`, iris);
  await put('iris/3/readme.txt', 'soon');
  await put('readme.txt', 'models');
  await put('notes/model.yaml', 'pool: [');
  await repository.scan();
  expect(repository.models).toEqual([]);
  expect(changes).toEqual([]);
});

test('a scan shows what came, changed and went, and says nothing where nothing did', async () => {
  await publish('iris/1/model.onnx', iris);
  await publish('iris/2/model.onnx', iris);
  await repository.scan();
  await repository.scan();
  await publish('iris/2/model.onnx', digits);
  await publish('iris/3/model.onnx', iris);
  await rm(join(folder, 'iris/1'), { recursive: true });
  await repository.scan();
  const versions = changes.map(({ added, removed }) => [added, removed].map((list) => list.map(({ id }) => id.version)));
  expect(versions).toEqual([[[2, 1], []], [[3, 2], [2, 1]]]);
  expect(changes[1]?.added[1]?.id.digest).not.toBe(changes[1]?.removed[0]?.id.digest);
});

test('a changed manifest renews the versions; moved aliases alone do not', async () => {
  await publish('iris/1/model.onnx', iris);
  await repository.scan();
  await put('iris/model.yaml', 'aliases: { champion: 1 }');
  await repository.scan();
  expect(changes[1]).toMatchObject({ added: [], removed: [], refused: [], realiased: [{ name: 'iris' }] });
  expect(repository.resolveText('iris@champion').id.version).toBe(1);
  await put('iris/model.yaml', 'threads: 2');
  await repository.scan();
  expect(changes[2]).toMatchObject({ added: [{ manifest: { threads: 2 } }], removed: [{ manifest: { threads: 1 } }] });
});

test('a half-copied file is refused until it is whole', async () => {
  const whole = await readFile(iris);
  await put('iris/1/model.onnx', whole.subarray(0, 300));
  await repository.scan();
  await repository.scan();
  expect(reasons('iris')).toEqual([expect.stringMatching(/^1: .*is cut off/)]);
  expect(changes).toHaveLength(1);
  expect(changes[0]?.refused).toMatchObject([{ name: 'iris', version: 1 }]);
  await put('iris/1/model.onnx', whole);
  await repository.scan();
  expect(repository.resolveText('iris').id.version).toBe(1);
  expect(reasons('iris')).toEqual([]);
});

test('a file that goes bad is served no more', async () => {
  await publish('iris/1/model.onnx', iris);
  await repository.scan();
  await truncate(join(folder, 'iris/1/model.onnx'), 100);
  await repository.scan();
  expect(changes[1]).toMatchObject({ added: [], removed: [{ id: { version: 1 } }], refused: [{ version: 1 }] });
});

test('a wrong manifest refuses every version, with its faults', async () => {
  await publish('iris/1/model.onnx', iris);
  await publish('iris/2/model.onnx', iris);
  await put('iris/model.yaml', 'treads: 2');
  await repository.scan();
  expect(reasons('iris')).toEqual([expect.stringMatching(/^2: model\.yaml is wrong: treads: unknown key/), expect.stringMatching(/^1: /)]);
  expect(() => repository.resolveText('iris')).toThrow(/no version of "iris" can be run; version 2: model\.yaml is wrong/);
});

test('resolves names, versions and aliases', async () => {
  await publish('iris/1/model.onnx', iris);
  await publish('iris/2/model.onnx', iris);
  await put('iris/3/model.onnx', 'not yet');
  await put('iris/model.yaml', 'aliases: { champion: 1, lost: 9, early: 3 }');
  await repository.scan();
  const version = (text: string) => repository.resolveText(text).id.version;
  expect([version('iris'), version('iris@1'), version('iris@champion')]).toEqual([2, 1, 1]);
  expect(repository.resolveText('iris')).toBe(repository.resolve({ name: 'iris' }));
  expect(repository.find({ name: 'iris', version: 2, digest: 'any' })?.id.version).toBe(2);
  expect(repository.find({ name: 'iris', version: 3, digest: 'any' })).toBeUndefined();
});

test.each([
  ['iri', /^there is no model "iri"; models: iris$/],
  ['iris@7', /^"iris" has no version 7; versions that can be run: 2, 1$/],
  ['iris@3', /^version 3 of "iris" cannot be run: the file is not ONNX/],
  ['iris@best', /^"iris" has no alias "best"; aliases: champion, lost, early$/],
  ['iris@constructor', /has no alias "constructor"/],
  ['iris@lost', /^the alias "lost" points at version 9, but "iris" has no version 9; versions that can be run: 2, 1$/],
  ['iris@early', /^the alias "early" points at version 3, but version 3 of "iris" cannot be run: /],
  ['iris@1@2', /^a model is named as name, name@version or name@alias$/],
])('%s is an unknown model, and the error says what there is', async (text, message) => {
  await publish('iris/1/model.onnx', iris);
  await publish('iris/2/model.onnx', iris);
  await put('iris/3/model.onnx', 'not yet');
  await put('iris/model.yaml', 'aliases: { champion: 1, lost: 9, early: 3 }');
  await repository.scan();
  expect(() => repository.resolveText(text)).toThrow(message);
  expect(() => repository.resolveText(text)).toThrow(expect.objectContaining({ code: 'unknown-model' }));
});

test('a resolved reference is forgotten when the next scan finds another answer', async () => {
  await publish('iris/1/model.onnx', iris);
  await repository.scan();
  expect(repository.resolveText('iris').id.version).toBe(1);
  await publish('iris/2/model.onnx', iris);
  await repository.scan();
  expect(repository.resolveText('iris').id.version).toBe(2);
});

test('follows links inside the folder, as mounts of Kubernetes have them', async () => {
  await publish('..2026_01/iris/1/model.onnx', iris);
  await symlink('..2026_01', join(folder, '..data'));
  await symlink('..data/iris', join(folder, 'iris'));
  await repository.scan();
  expect(repository.resolveText('iris@1').path).toBe(join(folder, 'iris/1/model.onnx'));
});

test('refuses links out of the folder, for models and manifests', async () => {
  const outside = `${folder}-outside`;
  await cp(dirname(dirname(iris)), join(outside, 'iris'), { recursive: true });
  await symlink(join(outside, 'iris'), join(folder, 'linked'));
  await publish('iris/1/model.onnx', iris);
  await symlink(join(outside, 'iris/model.yaml'), join(folder, 'iris/model.yaml'));
  await publish('lost/1/model.onnx', iris);
  await symlink('nowhere.yaml', join(folder, 'lost/model.yaml'));
  await repository.scan();
  await rm(outside, { recursive: true });
  expect(reasons('linked')).toEqual(['1: model.yaml is a link to outside of the repository']);
  expect(reasons('iris')).toEqual(['1: model.yaml is a link to outside of the repository']);
  expect(reasons('lost')).toEqual(['1: model.yaml is a link to nothing']);
});

test('refuses a link out of the folder to a single model, and what is no file', async () => {
  for (const version of [1, 2, 3, 4, 5]) await mkdir(join(folder, `iris/${version}`), { recursive: true });
  await symlink(iris, join(folder, 'iris/1/model.onnx'));
  await mkdir(join(folder, 'iris/2/model.onnx'));
  await symlink('nowhere.onnx', join(folder, 'iris/3/model.onnx'));
  await symlink('model.onnx', join(folder, 'iris/4/model.onnx'));
  execFileSync('mkfifo', [join(folder, 'iris/5/model.onnx')]);
  await repository.scan();
  expect(reasons('iris')).toEqual([
    '5: model.onnx is not a regular file',
    '4: model.onnx cannot be read (ELOOP)',
    '3: model.onnx is a link to nothing',
    '2: model.onnx is not a regular file',
    '1: model.onnx is a link to outside of the repository',
  ]);
});

test('a pipe for a manifest refuses the model, and does not hold up the scan', async () => {
  await publish('iris/1/model.onnx', iris);
  execFileSync('mkfifo', [join(folder, 'iris/model.yaml')]);
  await repository.scan();
  expect(reasons('iris')).toEqual(['1: model.yaml is not a regular file']);
});

test('a file with two names is a model under both', async () => {
  await publish('iris/1/model.onnx', iris);
  await mkdir(join(folder, 'iris/2'));
  await link(join(folder, 'iris/1/model.onnx'), join(folder, 'iris/2/model.onnx'));
  await repository.scan();
  expect(repository.model('iris')?.versions.map(({ id }) => id.version)).toEqual([2, 1]);
});

test('versions that are no folders are passed over', async () => {
  await publish('iris/1/model.onnx', iris);
  await put('iris/2', 'a file');
  execFileSync('mkfifo', [join(folder, 'iris/3'), join(folder, 'pipe')]);
  await symlink('nowhere', join(folder, 'iris/4'));
  await symlink('2', join(folder, 'iris/5'));
  await symlink('6', join(folder, 'iris/6'));
  await symlink('nowhere', join(folder, 'lost'));
  await symlink('pipe', join(folder, 'piped'));
  await repository.scan();
  expect(repository.models.map(({ name }) => name)).toEqual(['iris']);
  expect(repository.model('iris')?.versions.map(({ id }) => id.version)).toEqual([1]);
  expect(reasons('iris')).toEqual(['6: model.onnx cannot be read (ELOOP)']);
});

test('a folder that is not there is an error; one that goes away leaves the last models', async () => {
  await expect(new ModelRepository(join(folder, 'none')).scan()).rejects.toThrow(/repository cannot be read at .*none: there is no such folder/);
  await publish('iris/1/model.onnx', iris);
  await repository.scan();
  await rename(folder, `${folder}-away`);
  await expect(repository.scan()).rejects.toThrow('there is no such folder');
  expect(repository.resolveText('iris').id.version).toBe(1);
  await rename(`${folder}-away`, folder);
  await repository.scan();
  expect(changes).toHaveLength(1);
});

test('scans at the same time are one', async () => {
  await publish('iris/1/model.onnx', iris);
  const first = repository.scan();
  expect(repository.scan()).toBe(first);
  await first;
  expect(changes).toHaveLength(1);
});

test('watching finds new versions, reports errors and ends when aborted', async () => {
  const stop = new AbortController();
  const added = Promise.withResolvers<void>();
  const failed = Promise.withResolvers<unknown>();
  repository = new ModelRepository(folder, { onChange: () => added.resolve() });
  const watching = repository.watch(1, stop.signal, failed.resolve);
  await publish('iris/1/model.onnx', iris);
  await added.promise;
  await rename(folder, `${folder}-away`);
  expect(await failed.promise).toBeInstanceOf(Error);
  await rename(`${folder}-away`, folder);
  stop.abort();
  await watching;
  expect(repository.resolveText('iris').id.version).toBe(1);
});
