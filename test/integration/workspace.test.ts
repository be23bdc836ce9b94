// `npm run lint` keeps the floors of the architecture and the types of the code: each rule on code that breaks it.
import { execFile } from 'node:child_process';
import { cp, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import { root, temporaryFolder } from './rig.ts';

const bin = path.join(root, 'node_modules/.bin');
const floors = 'no-restricted-imports';

const bad = [
  ['a library of a higher floor', 'libs/queue/src/bad.ts', `export * from '@millrace/inference';`, floors],
  ['a library of the same floor', 'libs/models/src/bad.ts', `export { Producer } from '@millrace/queue';`, floors],
  ['an app', 'libs/inference/src/bad.ts', `export type { Server } from '@millrace/api';`, floors],
  ['another app', 'apps/worker/src/bad.ts', `import { createServer } from '@millrace/api'; export const server = createServer();`, floors],
  ['a dependency that another library owns', 'libs/batching/src/bad.ts', `export { Queue } from 'bullmq';`, floors],
  ['a dependency that a library owns, in an app', 'apps/api/src/bad.ts', `import { Redis } from 'ioredis'; export const redis = new Redis();`, floors],
  ['a library past its name', 'apps/api/src/path.ts', `export * from '../../../libs/queue/src/index.ts';`, floors],
  ['the environment outside of main.ts', 'apps/api/src/other.ts', `export const url = process.env['REDIS_URL'];`, 'no-process-env'],
  ['a promise that nobody owns', 'libs/queue/src/floating.ts', `async function work(): Promise<void> {}\nexport function start(): void { work(); }`, 'no-floating-promises'],
  ['a case that a switch forgets', 'libs/protocol/src/switch.ts', `export function of(state: 'open' | 'shut'): number {\n  switch (state) { case 'open': return 1; }\n  return 0;\n}`, 'switch-exhaustiveness-check'],
] as const;

const good = [
  ['a library of a lower floor', 'libs/queue/src/good.ts', `export * from '@millrace/protocol';`],
  ['libraries of lower floors', 'libs/inference/src/good.ts', `export * from '@millrace/models';\nexport * from '@millrace/process';`],
  ['a dependency of its own', 'libs/queue/src/own.ts', `export { Queue } from 'bullmq';\nexport { Redis } from 'ioredis';`],
  ['libraries in an app', 'apps/api/src/good.ts', `export * from '@millrace/queue';\nexport * from './other.ts';`],
  ['the environment in main.ts', 'apps/api/src/main.ts', `export const url = process.env['REDIS_URL'];`],
  ['a promise that is awaited', 'libs/queue/src/awaited.ts', `async function work(): Promise<void> {}\nexport async function start(): Promise<void> { await work(); }`],
] as const;

interface Finding {
  readonly code: string;
  readonly filename: string;
  readonly severity: string;
}

const folder = await temporaryFolder(afterAll);
let findings: readonly Finding[];

/** All files in one run, with the flags of `npm run lint`. */
async function lint(): Promise<Finding[]> {
  const [, ...flags] = manifest.scripts.lint.split(' ');
  const env = { ...process.env, PATH: `${bin}${path.delimiter}${process.env['PATH']}` };
  const output = await new Promise<string>((resolve) => {
    execFile(path.join(bin, 'oxlint'), ['-c', '.oxlintrc.json', '--format', 'json', ...flags], { cwd: folder, env }, (_failed, stdout) => resolve(stdout));
  });
  return (JSON.parse(output) as { diagnostics: Finding[] }).diagnostics;
}

beforeAll(async () => {
  await cp(path.join(root, '.oxlintrc.json'), path.join(folder, '.oxlintrc.json'));
  const compilerOptions = { target: 'es2024', module: 'nodenext', strict: true, noEmit: true, types: [] };
  await writeFile(path.join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, include: ['**/*.ts'] }));
  for (const [, file, text] of [...bad, ...good]) {
    await mkdir(path.dirname(path.join(folder, file)), { recursive: true });
    await writeFile(path.join(folder, file), `${text}\n`);
  }
  findings = await lint();
});

test.each(bad)('%s is refused', (_name, file, _text, rule) => {
  const found = findings.filter(({ filename }) => filename === file);
  expect(found.map(({ code }) => code)).toEqual([expect.stringContaining(`(${rule})`)]);
  expect(found[0]?.severity).toBe('error');
});

test.each(good)('%s is fine', (_name, file) => {
  expect(findings.filter(({ filename }) => filename === file)).toEqual([]);
});

test('every library and app stands on a floor', async () => {
  const { overrides } = JSON.parse(await readFile(path.join(root, '.oxlintrc.json'), 'utf8')) as { overrides: { files: string[]; rules: object }[] };
  const guarded = overrides.flatMap(({ files, rules }) => (floors in rules ? files : []));
  for (const kind of ['libs', 'apps']) {
    for (const name of await readdir(path.join(root, kind))) expect(guarded).toContain(`${kind}/${name}/**/*.ts`);
  }
});
