// `millrace models`: what can be run.
import { printShape } from '@millrace/protocol';
import type { Model } from '@millrace/protocol';
import { Client } from '../client.ts';

export async function models({ url, key, json }: { readonly url: string; readonly key?: string; readonly json?: boolean }): Promise<void> {
  const found = await new Client(url, key).models();
  if (json) {
    process.stdout.write(`${JSON.stringify(found, null, 2)}\n`);
    return;
  }
  const rows = found.flatMap(({ name, versions, aliases }) => versions.map((version) => [
    `${name}@${version.version}`,
    Object.entries(aliases).filter(([, number]) => number === version.version).map(([alias]) => `@${alias}`).join(' '),
    version.state === 'ready' ? `${describe(version.inputs)} -> ${describe(version.outputs)}` : `refused: ${version.reason ?? ''}`,
  ]));
  const widths = [0, 1].map((column) => Math.max(0, ...rows.map((row) => row[column]?.length ?? 0)));
  for (const [name = '', alias = '', rest = ''] of rows) {
    process.stdout.write(`${name.padEnd(widths[0] ?? 0)}  ${alias.padEnd(widths[1] ?? 0)}  ${rest}\n`);
  }
}

function describe(specs: Model['versions'][number]['inputs']): string {
  return specs.map(({ name, dtype, shape }) => `${name} ${dtype}${printShape(shape)}`).join(', ');
}
