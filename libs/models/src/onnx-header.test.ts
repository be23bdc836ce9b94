import { mkdtemp, open, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ModelRefused } from './model-refused.ts';
import { readOnnxHeader } from './onnx-header.ts';

const root = join(import.meta.dirname, '../../..');
const iris = join(root, 'deploy/models/iris/1/model.onnx');
const irisSignature = {
  inputs: [{ name: 'features', dtype: 'float32', shape: ['batch', 4] }],
  outputs: [{ name: 'label', dtype: 'int64', shape: ['batch'] }, { name: 'probabilities', dtype: 'float32', shape: ['batch', 3] }],
};

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-onnx-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(content: Uint8Array | string) {
  const path = join(folder, 'model.onnx');
  await writeFile(path, content);
  return readOnnxHeader(path);
}

test('reads the header of a scikit-learn model', async () => {
  expect(await readOnnxHeader(iris)).toEqual({
    signature: irisSignature,
    irVersion: 10,
    opsets: { 'ai.onnx': 18, 'ai.onnx.ml': 1 },
    producer: expect.stringMatching(/^skl2onnx \d/),
  });
});

test('reads the signature of a model with weights of a megabyte', async () => {
  const { signature } = await readOnnxHeader(join(root, 'deploy/models/digits-deep/1/model.onnx'));
  expect(signature.inputs).toEqual([{ name: 'image', dtype: 'float32', shape: ['batch', 64] }]);
  expect(signature.outputs).toEqual([{ name: 'probabilities', dtype: 'float32', shape: ['batch', 10] }]);
});

test.each([
  ['mixed', 'ids int64 batch; flag bool batch; weight float32 batch,2 -> score float32 batch,2; ids_out int64 batch'],
  ['scalar', 'x float32  -> y float32 '],
  ['no-batch', 'x float32 3,2; y float32 2,2 -> z float32 3,2'],
  ['dynamic-width', 'x float32 batch,width -> y float32 batch,width; mean float32 batch'],
  ['float16-scale', 'x float16 batch,4 -> y float16 batch,4'],
  ['float64-sum', 'x float64 batch,n -> y float64 batch'],
  ['string-concat', 'x string batch,2 -> y string batch,2'],
  ['uint8-image', 'x uint8 batch,2,2,3 -> y float32 batch'],
])('reads the signature of the fixture %s', async (name, expected) => {
  const { signature } = await readOnnxHeader(join(root, 'test/fixtures/models', name, '1/model.onnx'));
  const [inputs, outputs] = [signature.inputs, signature.outputs]
    .map((specs) => specs.map((spec) => `${spec.name} ${spec.dtype} ${spec.shape.join(',')}`).join('; '));
  expect(`${inputs} -> ${outputs}`).toBe(expected);
});

test.each([
  ['zipmap', /sequence of maps.*options=\{"zipmap": False\}/],
  ['external', /weights of "w" are in another file/],
  ['truncated', /is cut off/],
  ['not-onnx', /is not ONNX/],
])('refuses the fixture %s and says why', async (name, reason) => {
  const reading = readOnnxHeader(join(root, 'test/fixtures/refused', name, '1/model.onnx'));
  await expect(reading).rejects.toThrow(ModelRefused);
  await expect(reading).rejects.toThrow(reason);
});

/** Undefined where the file is refused; any other error is thrown. */
async function readUnlessRefused(content: Uint8Array) {
  return read(content).catch((error: unknown) => {
    if (!(error instanceof ModelRefused)) throw error;
  });
}

test('a file cut off anywhere is refused, or lost nothing of its signature', async () => {
  const whole = await readFile(iris);
  const lengths = Array.from(whole.keys());
  const signatures = [];
  for (const length of lengths) signatures.push((await readUnlessRefused(whole.subarray(0, length)))?.signature);
  const complete = signatures.filter((signature) => signature !== undefined);
  expect(complete.length).toBeLessThan(0.1 * whole.length);
  expect(complete).toEqual(complete.map(() => irisSignature));
}, 20_000);

test('bytes changed at random are refused or read, never worse', async () => {
  const whole = await readFile(iris);
  const flip = fc.record({ at: fc.nat(whole.length - 1), byte: fc.nat(255) });
  let read = 0;
  await fc.assert(fc.asyncProperty(fc.array(flip, { minLength: 1, maxLength: 4 }), async (flips) => {
    const bytes = Buffer.from(whole);
    for (const { at, byte } of flips) bytes[at] = byte;
    if (await readUnlessRefused(bytes)) read++;
  }), { numRuns: 2000, seed: 7 });
  expect(read).toBeGreaterThan(0);
}, 20_000);

// Models that no exporter at hand writes, made field by field.
const varint = (value: number | bigint): number[] => {
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    if (rest < 128n) return [...bytes, Number(rest)];
    bytes.push(Number(rest & 127n) | 128);
  }
};
const number = (field: number, value: number | bigint): Buffer => Buffer.from([...varint(field * 8), ...varint(value)]);
const block = (field: number, ...parts: (Buffer | string)[]): Buffer => {
  const content = Buffer.concat(parts.map((part) => Buffer.from(part as string)));
  return Buffer.concat([Buffer.from([...varint(field * 8 + 2), ...varint(content.length)]), content]);
};
const model = (...graph: Buffer[]): Buffer => Buffer.concat([number(1, 8), block(7, ...graph), block(8, number(2, 17))]);
const dim = (value: number | bigint | string): Buffer => block(1, typeof value === 'string' ? block(2, value) : number(1, value));
const tensor = (elementType: number, ...dims: (number | bigint | string)[]): Buffer =>
  block(1, number(1, elementType), block(2, ...dims.map(dim)));
const input = (name: string, ...type: Buffer[]): Buffer => block(11, block(1, name), block(2, ...type));
const output = (name: string, ...type: Buffer[]): Buffer => block(12, block(1, name), block(2, ...type));
const y = output('y', tensor(1, 'n'));

test('a dimension without a length is -1, whatever way the file says so', async () => {
  const { signature } = await read(model(input('x', tensor(1, -1, -7n, '', 0, 2 ** 31 - 1, 'n + 1')), input('z', block(1, number(1, 1), block(2, block(1)))), y));
  expect(signature.inputs.map(({ shape }) => shape)).toEqual([[-1, -1, -1, 0, 2 ** 31 - 1, 'n + 1'], [-1]]);
});

test('an input that has a value as an initializer is none', async () => {
  const weights = block(5, number(2, 16), block(8, 'w'), block(9, 'bytes'));
  const sparse = block(15, block(1, block(8, 's')), block(2, block(8, '')));
  const { signature } = await read(model(input('w', tensor(16, 4)), input('x', tensor(1, 4)), input('s', tensor(1, 4)), weights, sparse, y));
  expect(signature.inputs.map(({ name }) => name)).toEqual(['x']);
});

test.each<[string, Buffer | string, RegExp]>([
  ['an empty file', '', /is empty/],
  ['a pointer of Git LFS', 'version https://git-lfs.github.com/spec/v1\noid sha256:00\n', /run git lfs pull/],
  ['a message without IR version', block(7, y), /no IR version/],
  ['a model without graph', number(1, 8), /no graph/],
  ['a model cut off before its opset', Buffer.concat([number(1, 8), block(7, y)]), /opset: is it cut off/],
  ['a graph without outputs', model(input('x', tensor(1, 4))), /no outputs/],
  ['bfloat16', model(output('y', tensor(16, 4))), /output "y" is bfloat16: cast it .* float32/],
  ['a dtype from the future', model(output('y', tensor(99, 4))), /unknown element type 99/],
  ['an input without shape', model(input('x', block(1, number(1, 1))), y), /input "x" has no shape/],
  ['an output without shape', model(output('y', block(1, number(1, 1)))), /output "y" has no shape/],
  ['an output without type', model(block(12, block(1, 'y'))), /not a tensor but untyped/],
  ['an output without name', model(block(12, block(2, tensor(1, 4)))), /an output has no name/],
  ['a sequence', model(output('y', block(4, block(1, tensor(1, 4))))), /"y" is not a tensor but a sequence:/],
  ['a map', model(output('y', block(5))), /not a tensor but a map/],
  ['a sparse tensor', model(output('y', block(8))), /not a tensor but a sparse tensor/],
  ['an optional input', model(input('x', block(9)), y), /"x" is not a tensor but an optional/],
  ['two inputs of one name', model(input('x', tensor(1, 4)), input('x', tensor(1, 4)), y), /two inputs are called "x"/],
  ['an absurd dimension', model(output('y', tensor(1, 2 ** 31))), /dimension of 2147483648/],
  ['weights of a sparse initializer elsewhere', model(block(15, block(1, block(8, 's'), number(14, 1))), y), /weights of "s"/],
  ['a name of a megabyte', model(output('y'.repeat(2 ** 20), tensor(1, 4))), /has 1048576 bytes, more than 4096/],
  ['a number without end', Buffer.concat([Buffer.from([8]), Buffer.alloc(20, 0xff)]), /more than ten bytes/],
])('refuses %s', async (_, content, reason) => {
  const reading = read(content);
  await expect(reading).rejects.toThrow(ModelRefused);
  await expect(reading).rejects.toThrow(reason);
});

test('reads the same wherever a field falls on the edge of the window', async () => {
  for (let padding = 65_400; padding < 65_560; padding++) {
    const { signature } = await read(model(block(10, 'p'.repeat(padding)), input('features', tensor(1, 'batch', 300)), y));
    expect(signature.inputs).toEqual([{ name: 'features', dtype: 'float32', shape: ['batch', 300] }]);
  }
});

test('seeks over two gigabytes of weights', async () => {
  const weightBytes = 2 ** 31;
  const start = Buffer.concat([
    number(1, 8), block(8, number(2, 17)),
    // The graph and its initializer are opened by hand: their content is never in memory.
    Buffer.from([...varint(7 * 8 + 2), ...varint(12 + weightBytes + y.length)]),
    Buffer.from([...varint(5 * 8 + 2), ...varint(6 + weightBytes)]),
    Buffer.from([...varint(9 * 8 + 2), ...varint(weightBytes)]),
  ]);
  const path = join(folder, 'sparse.onnx');
  const file = await open(path, 'w');
  await file.write(start, 0, start.length, 0);
  await file.write(y, 0, y.length, start.length + weightBytes);
  await file.close();
  expect((await readOnnxHeader(path)).signature.outputs).toHaveLength(1);
});
