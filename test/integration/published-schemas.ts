// Kubernetes', KEDA's and the Prometheus operator's published schemas, as the packages `kubernetes-models` have them.
import { execFile } from 'node:child_process';
import { symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Manifest } from './helm.ts';
import { root } from './rig.ts';

type Model = new (manifest: Manifest) => { validate(): void };

/** What the schema of its kind finds wrong in a manifest: types, what is missing, choices, forms. Unknown fields pass. */
export async function faultsOf(manifest: Manifest): Promise<string[]> {
  const models = await import(packageOf(manifest)) as Record<string, Model | undefined>;
  const Kind = models[manifest.kind];
  if (!Kind) return [`${manifest.apiVersion} has no ${manifest.kind}`];
  try {
    new Kind(manifest).validate();
    return [];
  } catch (error) {
    return [`${nameOf(manifest)}: ${String(error)}`];
  }
}

/** Where a manifest has fields that its kind has not: the types of the same schemas, asked of the compiler, refuse them in literals. */
export async function unknownFieldsOf(manifests: readonly Manifest[], folder: string): Promise<string[]> {
  await symlink(path.join(root, 'node_modules'), path.join(folder, 'node_modules')).catch((error: NodeJS.ErrnoException) => { if (error.code !== 'EEXIST') throw error; });
  const compilerOptions = { module: 'nodenext', target: 'es2024', strict: true, noEmit: true, skipLibCheck: true, types: [] };
  await writeFile(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['manifests.ts'] }));
  const literals = manifests.map((manifest, index) => `export const _${index}: import('${packageOf(manifest)}').I${manifest.kind} = ${JSON.stringify(manifest)};`);
  await writeFile(path.join(folder, 'manifests.ts'), ['export {};', ...literals].join('\n'));
  const output = await new Promise<string>((resolve) => {
    execFile(path.join(root, 'node_modules/.bin/tsc'), ['--project', folder, '--pretty', 'false'], { cwd: folder }, (_failed, stdout, stderr) => resolve(stdout + stderr));
  });
  return output.split('\n').filter((line) => line !== '').map((line) => {
    const manifest = manifests[Number(/^manifests\.ts\((\d+),/.exec(line)?.[1]) - 2];
    return manifest ? `${nameOf(manifest)}: ${line}` : line;
  });
}

function nameOf({ kind, metadata }: Manifest): string {
  return `${kind} ${metadata.name}`;
}

const extensions: Readonly<Record<string, string>> = {
  'keda.sh': '@kubernetes-models/keda',
  'monitoring.coreos.com': '@kubernetes-models/prometheus-operator',
};

function packageOf({ apiVersion }: Manifest): string {
  return `${extensions[apiVersion.split('/')[0] as string] ?? 'kubernetes-models'}/${apiVersion}`;
}
