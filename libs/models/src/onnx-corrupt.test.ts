// Models that were damaged on the way: all that is in this repository, cut off and changed.
import { globSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dtypes } from '@millrace/protocol';
import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ModelRefused } from './model-refused.ts';
import { readBytes } from './onnx-bytes.ts';
import { readOnnxHeader } from './onnx-header.ts';
import type { OnnxHeader } from './onnx-header.ts';

const root = join(import.meta.dirname, '../../..');
const models = globSync('{deploy,test/fixtures}/models/*/*/model.onnx', { cwd: root });

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-corrupt-'));
});
afterAll(() => rm(folder, { recursive: true }));

/** Undefined where the file is refused; any other error is thrown. */
async function readUnlessRefused(content: Uint8Array): Promise<OnnxHeader | undefined> {
  return readBytes(folder, content).catch((error: unknown) => {
    if (!(error instanceof ModelRefused) || error.message === '') throw error;
    return undefined;
  });
}

/** Bytes that may be no model any more are refused, or have a signature that a model can have. */
async function isRefusedOrSound(content: Uint8Array): Promise<boolean> {
  const header = await readUnlessRefused(content);
  if (!header) return true;
  const { signature: { inputs, outputs }, irVersion } = header;
  return irVersion > 0 && outputs.length > 0 && [...inputs, ...outputs].every(({ name, dtype, shape }) =>
    name !== '' && dtypes.includes(dtype)
    && shape.every((dim) => (typeof dim === 'string' ? dim !== '' : Number.isInteger(dim) && dim >= -1)));
}

test('there are models to damage', () => {
  expect(models.length).toBeGreaterThan(10);
});

test.each(models)('%s, cut off anywhere, is refused or lost nothing of its signature', async (path) => {
  const whole = await readFile(join(root, path));
  const { signature } = await readOnnxHeader(join(root, path));
  const lengths = whole.length < 1000
    ? Array.from(whole.keys())
    : fc.sample(fc.nat(whole.length - 1), { numRuns: 100, seed: 7 });
  const headers = [];
  for (const length of lengths) headers.push(await readUnlessRefused(whole.subarray(0, length)));
  const read = headers.filter((header) => header !== undefined);
  expect(read.map((header) => header.signature)).toEqual(read.map(() => signature));
});

test.each(models)('%s, with bytes changed at random, is refused or has a sound signature', async (path) => {
  const whole = await readFile(join(root, path));
  // In the beginning and at the end there is more structure than in the weights between.
  const near = fc.nat(Math.min(whole.length, 300) - 1);
  const place = fc.oneof(fc.nat(whole.length - 1), near, near.map((at) => whole.length - 1 - at));
  const changes = fc.array(fc.record({ place, byte: fc.nat(255) }), { minLength: 1, maxLength: 4 });
  const property = fc.asyncProperty(changes, async (changed) => {
    const bytes = Buffer.from(whole);
    for (const { place: at, byte } of changed) bytes[at] = byte;
    return isRefusedOrSound(bytes);
  });
  expect(await fc.check(property, { numRuns: whole.length < 1_000_000 ? 150 : 30, seed: 7 })).toMatchObject({ failed: false });
});

test('bytes of any kind are refused, or have a sound signature', async () => {
  const property = fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), isRefusedOrSound);
  expect(await fc.check(property, { numRuns: 1000, seed: 7 })).toMatchObject({ failed: false });
});
