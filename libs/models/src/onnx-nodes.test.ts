// What stands inside of nodes, and how large tensors say they are.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ModelRefused } from './model-refused.ts';
import { block, model, number, readBytes, varint, y } from './onnx-bytes.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'millrace-nodes-'));
});
afterAll(() => rm(folder, { recursive: true }));

const read = (content: Uint8Array) => readBytes(folder, content);

async function refusalOf(content: Uint8Array): Promise<string> {
  return read(content).then(() => 'nothing: it was read', (error: unknown) => {
    if (!(error instanceof ModelRefused)) throw error;
    return error.message;
  });
}

const node = (name: string, ...attributes: Buffer[]): Buffer => block(1, block(2, `${name}_out`), block(3, name), ...attributes.map((parts) => block(5, parts)));
const external = [block(8, 'w'), number(14, 1)];
const elsewhere = 'the weights of "w" are in another file: save the model as one file, without save_as_external_data';
const functionOf = (...parts: Buffer[]): Buffer => block(25, block(1, 'gelu'), ...parts);
const afterGraph = (...parts: Buffer[]): Buffer => Buffer.concat([model(y), ...parts]);

test.each<[string, Buffer, string]>([
  ['an initializer', model(block(5, ...external), y), elsewhere],
  ['an initializer that only says where', model(block(5, block(8, 'w'), block(13, block(1, 'location'), block(2, '/etc/passwd'))), y), elsewhere],
  ['a sparse initializer', model(block(15, block(1, ...external)), y), elsewhere],
  ['the indices of a sparse initializer', model(block(15, block(1, block(8, 's')), block(2, ...external)), y), elsewhere],
  ['a constant', model(node('c', block(5, ...external)), y), `node "c": ${elsewhere}`],
  ['a constant of a node without a name', model(node('', block(5, ...external)), y), `node "_out": ${elsewhere}`],
  ['a list of tensors', model(node('c', block(10, block(8, 'fine')), block(10, ...external)), y), `node "c": the weights of "w"`],
  ['a sparse constant', model(node('c', block(22, block(1, ...external))), y), `node "c": ${elsewhere}`],
  ['a list of sparse tensors', model(node('c', block(23, block(2, ...external))), y), `node "c": ${elsewhere}`],
  ['a branch', model(node('if', block(6, block(5, ...external))), y), `node "if": ${elsewhere}`],
  ['a node of a branch', model(node('if', block(6, node('c', block(5, ...external)))), y), `node "if": node "c": ${elsewhere}`],
  ['a list of graphs', model(node('switch', block(11), block(11, block(15, block(1, ...external)))), y), `node "switch": ${elsewhere}`],
  ['a function', afterGraph(functionOf(block(7, block(3, 'c'), block(5, block(5, ...external))))), `function "gelu": node "c": ${elsewhere}`],
  ['the default of a function', afterGraph(functionOf(block(11, block(5, ...external)))), `function "gelu": ${elsewhere}`],
  ['what training starts from', afterGraph(block(20, block(1, block(5, ...external)))), elsewhere],
  ['what training runs', afterGraph(block(20, block(2, node('c', block(5, ...external))))), `node "c": ${elsewhere}`],
  ['a tensor without a name', model(node('c', block(5, number(14, 1))), y), 'node "c": the weights of a tensor without a name are in another file'],
])('refuses weights in another file: those of %s', async (_, content, reason) => {
  expect(await refusalOf(content)).toMatch(new RegExp(`^${reason}`));
});

const nested = (depth: number): Buffer => (depth === 0 ? node('last') : node('if', block(6, nested(depth - 1))));

test('graphs in graphs are read 32 deep, and refused beyond', async () => {
  await read(model(nested(32), y));
  expect(await refusalOf(model(nested(33), y))).toContain('node "if": its graphs are nested more than 32 deep');
  expect(await refusalOf(model(nested(1000), y))).toContain('more than 32 deep');
});

test('more than a million nodes are refused', async () => {
  const nodes = Buffer.alloc(2 * 1_000_001, block(1));
  expect(await refusalOf(model(nodes, y))).toContain('the model has more than 1000000 nodes');
});

test('what would take minutes to look through is refused', async () => {
  const attributes = Buffer.alloc(2 * 5_000_000, block(5));
  expect(await refusalOf(model(block(1, attributes), y))).toContain('it has more than 5000000 parts');
});

test('names that would fill the memory are refused', async () => {
  const weights = block(5, block(8, 'w'.repeat(4096)));
  expect(await refusalOf(model(Buffer.alloc(16_400 * weights.length, weights), y))).toContain('its names have more than 67108864 bytes');
});

const float = 1;
const int64 = 7;
const text = 8;
const float16 = 10;
const int4 = 22;
const tensor = (elementType: number, dims: (number | bigint)[], ...data: Buffer[]): Buffer =>
  block(5, ...dims.map((dim) => number(1, dim)), number(2, elementType), block(8, 'w'), ...data);
const bytes = (count: number): Buffer => Buffer.alloc(count, 1);

test.each<[string, Buffer]>([
  ['raw floats', tensor(float, [2, 3], block(9, bytes(24)))],
  ['packed floats', tensor(float, [2, 3], block(4, bytes(24)))],
  ['floats one by one', tensor(float, [2], Buffer.concat([[0x25], bytes(4), [0x25], bytes(4)].map((part) => Buffer.from(part))))],
  ['packed integers of a byte each', tensor(int64, [5], block(7, bytes(5)))],
  ['integers one by one', tensor(int64, [2], number(7, 1), number(7, -1))],
  ['halves as integers', tensor(float16, [4], block(5, bytes(4)))],
  ['raw halves of bytes', tensor(int4, [5], block(9, bytes(3)))],
  ['empty texts', tensor(text, [2], block(6, ''), block(6, ''))],
  ['packed dimensions', block(5, block(1, Buffer.from([...varint(2), ...varint(300)])), number(2, float), block(9, bytes(2400)))],
  ['a scalar', tensor(float, [], block(9, bytes(4)))],
  ['nothing', tensor(float, [0, 2 ** 40])],
])('takes %s', async (_, initializer) => {
  expect((await read(model(initializer, y))).signature.outputs).toHaveLength(1);
});

test.each<[string, Buffer, string]>([
  ['raw floats', tensor(float, [2, 3], block(9, bytes(23))), '"w" has shape [2, 3], at least 24 bytes, but the file holds 23 for it'],
  ['packed floats', tensor(float, [2, 3], block(4, bytes(20))), 'at least 24 bytes, but the file holds 20'],
  ['packed integers', tensor(int64, [6], block(7, bytes(5))), 'at least 6 bytes, but the file holds 5'],
  ['raw integers', tensor(int64, [2], block(9, bytes(15))), 'at least 16 bytes, but the file holds 15'],
  ['texts', tensor(text, [3], block(6, 'long'), block(6, 'texts')), 'at least 3 bytes, but the file holds 2'],
  ['dimensions beyond all numbers', tensor(float, [2n ** 62n, 2n ** 62n, 2n ** 62n], block(9, bytes(8))), 'but the file holds 8'],
  ['packed dimensions', block(5, block(1, Buffer.from([...varint(2), ...varint(301)])), number(2, float), block(9, bytes(2400))), 'shape [2, 301]'],
  ['a negative dimension', tensor(float, [-1, 4], block(9, bytes(16))), '"w" has a dimension of -1'],
  ['65 dimensions', tensor(float, Array.from({ length: 65 }, () => 1), block(9, bytes(4))), 'a tensor has more than 64 dimensions'],
  ['a sparse tensor', block(15, block(1, number(2, float), block(8, 'w'), number(1, 0)), number(3, 2 ** 20), number(3, 2 ** 10)), '"w" has 4294967296 bytes when written out in full, more than 2147483647'],
])('refuses a tensor that the file cannot hold: %s', async (_, initializer, reason) => {
  expect(await refusalOf(model(initializer, y))).toContain(reason);
});

test('a constant that the file cannot hold is refused as an initializer is', async () => {
  const constant = block(5, number(1, 2 ** 40), number(2, float));
  expect(await refusalOf(model(node('c', constant), y))).toContain('node "c": a tensor without a name has shape [1099511627776], at least 4398046511104 bytes, but the file holds 0 for it');
});
