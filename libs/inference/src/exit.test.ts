import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const script = `
  import { InferenceEngine } from '${new URL('./index.ts', import.meta.url).href}';
  import { sampleVersion, tensorOf } from '${new URL('./sample-version.ts', import.meta.url).href}';
  const version = await sampleVersion('digits-deep', { manifest: { instances: 2 } });
  const engine = new InferenceEngine({ threads: 2, sessionMemoryBytes: 2 ** 30 });
  await engine.start();
  const item = { rows: 16, inputs: { image: tensorOf('float32', [16, 64], new Float32Array(16 * 64)) } };
  const running = [1, 2, 3, 4].map(() => engine.run(version, [item]));
  await engine.stop();
  console.log((await Promise.all(running)).flat().map(({ ok }) => ok).join());
`;

// execFile rejects on any exit code but 0.
test('a process that stops its engine while batches run ends by itself, without a sound', async () => {
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--eval', script]);
  expect(stdout).toBe('true,true,true,true\n');
  expect(stderr).toBe('');
}, 30_000);

const crash = `
  import { InferenceEngine } from '${new URL('./index.ts', import.meta.url).href}';
  import { sampleVersion, tensorOf } from '${new URL('./sample-version.ts', import.meta.url).href}';
  const version = await sampleVersion('crashes-on-thirteen');
  const engine = new InferenceEngine({ threads: 1, sessionMemoryBytes: 2 ** 30 });
  await engine.start();
  const itemOf = (x) => ({ rows: 1, inputs: { x: tensorOf('int64', [1, 1], BigInt64Array.of(x)) } });
  console.log((await engine.run(version, [12n, 14n].map(itemOf))).map(({ ok }) => ok).join());
  await engine.run(version, [12n, 13n, 14n].map(itemOf));
  console.log('still there');
`;

test('a crash in native code ends the whole process, not only the thread', async () => {
  const running = promisify(execFile)(process.execPath, ['--eval', crash]);
  await expect(running).rejects.toMatchObject({ signal: 'SIGFPE', stdout: 'true,true\n' });
}, 30_000);
