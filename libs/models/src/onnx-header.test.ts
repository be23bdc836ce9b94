import { mkdtemp, open, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ModelRefused } from './model-refused.ts';
import { block, input, model, number, output, readBytes, tensorType, varint, y } from './onnx-bytes.ts';
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

const read = (content: Uint8Array | string) => readBytes(folder, content);

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

test('a dimension without a length is -1, whatever way the file says so', async () => {
  const { signature } = await read(model(input('x', tensorType(1, -1, -7n, '', 0, 2 ** 31 - 1, 'n + 1')), input('z', block(1, number(1, 1), block(2, block(1)))), y));
  expect(signature.inputs.map(({ shape }) => shape)).toEqual([[-1, -1, -1, 0, 2 ** 31 - 1, 'n + 1'], [-1]]);
});

test('an input that has a value as an initializer is none', async () => {
  const weights = block(5, number(2, 16), block(8, 'w'), block(9, 'bytes'));
  const sparse = block(15, block(1, block(8, 's')), block(2, block(8, '')));
  const { signature } = await read(model(input('w', tensorType(16, 4)), input('x', tensorType(1, 4)), input('s', tensorType(1, 4)), weights, sparse, y));
  expect(signature.inputs.map(({ name }) => name)).toEqual(['x']);
});

test.each<[string, Buffer | string, RegExp]>([
  ['an empty file', '', /is empty/],
  ['a pointer of Git LFS', 'version https://git-lfs.github.com/spec/v1\noid sha256:00\n', /run git lfs pull/],
  ['a message without IR version', block(7, y), /no IR version/],
  ['a model without graph', number(1, 8), /no graph/],
  ['a model cut off before its opset', Buffer.concat([number(1, 8), block(7, y)]), /opset: is it cut off/],
  ['a graph without outputs', model(input('x', tensorType(1, 4))), /no outputs/],
  ['bfloat16', model(output('y', tensorType(16, 4))), /output "y" is bfloat16: cast it .* float32/],
  ['a dtype from the future', model(output('y', tensorType(99, 4))), /unknown element type 99/],
  ['an input without shape', model(input('x', block(1, number(1, 1))), y), /input "x" has no shape/],
  ['an output without shape', model(output('y', block(1, number(1, 1)))), /output "y" has no shape/],
  ['an output without type', model(block(12, block(1, 'y'))), /not a tensor but untyped/],
  ['an output without name', model(block(12, block(2, tensorType(1, 4)))), /an output has no name/],
  ['a sequence', model(output('y', block(4, block(1, tensorType(1, 4))))), /"y" is not a tensor but a sequence:/],
  ['a map', model(output('y', block(5))), /not a tensor but a map/],
  ['a sparse tensor', model(output('y', block(8))), /not a tensor but a sparse tensor/],
  ['an optional input', model(input('x', block(9)), y), /"x" is not a tensor but an optional/],
  ['two inputs of one name', model(input('x', tensorType(1, 4)), input('x', tensorType(1, 4)), y), /two inputs are called "x"/],
  ['an absurd dimension', model(output('y', tensorType(1, 2 ** 31))), /dimension of 2147483648/],
  ['more elements than fit', model(input('x', tensorType(1, 'n', 2 ** 20, 2 ** 12)), y), /input "x" has at least 4294967296 elements/],
  ['65 dimensions', model(output('y', tensorType(1, ...Array.from({ length: 65 }, () => 1)))), /output "y" has 65 dimensions, more than 64/],
  ['weights of a sparse initializer elsewhere', model(block(15, block(1, block(8, 's'), number(14, 1))), y), /weights of "s"/],
  ['a name of a megabyte', model(output('y'.repeat(2 ** 20), tensorType(1, 4))), /has 1048576 bytes, more than 4096/],
  ['a number without end', Buffer.concat([Buffer.from([8]), Buffer.alloc(20, 0xff)]), /more than ten bytes/],
])('refuses %s', async (_, content, reason) => {
  const reading = read(content);
  await expect(reading).rejects.toThrow(ModelRefused);
  await expect(reading).rejects.toThrow(reason);
});

test('reads the same wherever a field falls on the edge of the window', async () => {
  for (let padding = 65_400; padding < 65_560; padding++) {
    const { signature } = await read(model(block(10, 'p'.repeat(padding)), input('features', tensorType(1, 'batch', 300)), y));
    expect(signature.inputs).toEqual([{ name: 'features', dtype: 'float32', shape: ['batch', 300] }]);
  }
});

test('seeks over two gigabytes of weights, and refuses more', async () => {
  const weightBytes = 2 ** 31 - 100;
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
  await truncate(path, 2 ** 31);
  await expect(readOnnxHeader(path)).rejects.toThrow('the file has 2147483648 bytes: ONNX files, as all of protobuf, have at most 2147483647');
});
