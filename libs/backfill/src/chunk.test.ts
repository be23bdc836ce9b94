import type { Dim, Dtype, NumericTensor, Signature, Tensor, Tensors } from '@millrace/protocol';
import { numbersOf } from '@millrace/protocol';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { BackfillData } from './job.ts';
import type { Chunk } from './plan.ts';
import { positionsOf, Trial } from './trial.ts';

let trial: Trial;
beforeEach(async () => {
  trial = await Trial.open();
});
afterEach(() => trial.close());

const of = (dtype: Dtype, ...shape: Dim[]): Signature => ({ inputs: [{ name: 'x', dtype, shape: [-1, ...shape] }], outputs: [{ name: 'y', dtype: 'float32', shape: [-1] }] });

interface Read {
  readonly groups: readonly { readonly positions: readonly number[]; readonly tensors: Tensors }[];
  readonly refused: readonly (readonly [number, string])[];
}

/** What a worker sees of an input with one chunk. */
async function read(input: Partial<BackfillData['input']> & { readonly uri: string }, signature: Signature, more: Partial<BackfillData> = {}): Promise<Read> {
  await trial.work.clear();
  const plan = await trial.check({ input, output: { uri: trial.path('out.ndjson') }, ...more }, { signature });
  const [chunk] = await Array.fromAsync(trial.chunks(plan));
  const open = await trial.open(plan, chunk as Chunk);
  await open.close();
  return {
    groups: open.groups.map((group) => ({ positions: [...positionsOf(group)], tensors: group.tensors })),
    refused: open.refused.map(({ position, reason }) => [position, reason]),
  };
}

function valuesOf(tensor: Tensor | undefined): unknown[] {
  return tensor?.dtype === 'string' ? [...tensor.data] : [...numbersOf(tensor as NumericTensor)];
}

const x = ({ groups }: Read): unknown[] => valuesOf(groups[0]?.tensors.x);

test('a tensor is row-major, of the signature’s dtype and shape', async () => {
  const input = await trial.put('in.csv', 'a,b,c,d\n1,2,3,4\n5,6,7,8\n');
  const { groups } = await read({ uri: input }, of('float32', 2, 2));
  expect(groups).toHaveLength(1);
  expect(groups[0]?.tensors.x).toMatchObject({ dtype: 'float32', shape: [2, 2, 2] });
  expect(valuesOf(groups[0]?.tensors.x)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
});

const whole: readonly (readonly [Dtype, string, string])[] = [
  ['int8', '-128', '128'], ['int16', '32767', '32768'], ['int32', '-2147483648', '2147483648'], ['int64', '9007199254740993', '9223372036854775808'],
  ['uint8', '255', '-1'], ['uint16', '65535', '65536'], ['uint32', '4294967295', '4294967296'], ['uint64', '18446744073709551615', '-1'],
];

test.each(whole)('%s is exact, and nothing is rounded into it', async (dtype, inside, outside) => {
  const big = dtype.endsWith('64');
  const expected = [1, 2].map((value) => (big ? BigInt(value) : value));
  const csv = await trial.put('in.csv', 'x\n1\n2\n');
  expect(x(await read({ uri: csv }, of(dtype, 1)))).toEqual(expected);
  const text = await trial.put('in.csv', `x\n1\n1.5\n${inside}\n${outside}\n2e0\n`);
  const fromText = await read({ uri: text }, of(dtype, 1));
  expect(x(fromText)).toEqual(['1', inside, '2'].map((value) => (big ? BigInt(value) : Number(value))));
  expect(fromText.refused.map(([position]) => position)).toEqual([1, 3]);
  const json = await trial.put('in.ndjson', `{"x":[1,${inside}]}\n{"x":[1,1.5]}\n{"x":[2,2]}\n`);
  const fromJson = await read({ uri: json }, of(dtype, 2));
  expect(x(fromJson)).toEqual([1, inside, 2, 2].map((value) => (big ? BigInt(value) : Number(value))));
  expect(fromJson.refused.map(([position]) => position)).toEqual([1]);
});

const spellings: readonly (readonly [Dtype, string, number | bigint | undefined])[] = [
  ['int64', '1.0', 1n], ['int64', '1e3', 1000n], ['int64', '1.5', undefined], ['int64', '9007199254740993', 9_007_199_254_740_993n], ['int64', '1e20', undefined], ['uint64', '-1.0', undefined],
  ['int32', '1.0', 1], ['int32', '1e400', undefined], ['int32', 'true', undefined], ['int64', 'true', undefined], ['float64', 'false', undefined],
  ['float32', 'true', undefined], ['float32', '1e39', undefined], ['float32', '-1e400', undefined], ['float64', '1e39', 1e39], ['float64', '1e400', undefined], ['float16', '1e39', undefined],
  ['float32', '-Infinity', -Infinity], ['float64', 'inf', Infinity], ['float16', 'Infinity', Infinity],
];

test.each(spellings)('%s: whether %s is one, and which, does not depend on the rows beside it', async (dtype, spelling, value) => {
  const one = dtype.endsWith('int64') ? 1n : 1;
  const expected = value === undefined ? [one] : [one, value];
  for (const rest of [[], ['"no"']]) {
    const lines = ['1', spelling, ...rest];
    const csv = await trial.put('in.csv', `x,k\n${lines.map((line) => `${line},"k"\n`).join('')}`);
    expect(['csv', x(await read({ uri: csv }, of(dtype), { mapping: { x: 'x' }, carry: ['k'] }))]).toEqual(['csv', expected]);
    const plain = await trial.put('plain.csv', `x,k\n${lines.map((line) => `${line},k\n`).join('')}`);
    expect(['plain', x(await read({ uri: plain }, of(dtype), { mapping: { x: 'x' } }))]).toEqual(['plain', expected]);
    const json = await trial.put('in.ndjson', lines.map((line) => `{"x":${line}}\n`).join(''));
    expect(['json', x(await read({ uri: json }, of(dtype)))]).toEqual(['json', expected]);
    const jsonLists = await trial.put('lists.ndjson', lines.map((line) => `{"x":[${line}]}\n`).join(''));
    expect(['json lists', x(await read({ uri: jsonLists }, of(dtype, 1)))]).toEqual(['json lists', expected]);
    const csvLists = await trial.put('lists.csv', `x,k\n${['1', spelling, ...rest.map(() => 'no')].map((line) => `"[${line}]",k\n`).join('')}`);
    expect(['csv lists', x(await read({ uri: csvLists }, of(dtype, 'n'), { mapping: { x: 'x' } }))]).toEqual(['csv lists', expected]);
  }
});

test('a number has no underscores', async () => {
  for (const rest of [[], ['no']]) {
    for (const dtype of ['float32', 'int32', 'int64'] as const) {
      const one = dtype === 'int64' ? 1n : 1;
      const lines = ['1', '1_000', ...rest];
      const csv = await trial.put('in.csv', `k,x\n${lines.map((line) => `2024_01,${line}\n`).join('')}`);
      expect(x(await read({ uri: csv }, of(dtype), { mapping: { x: 'x' } }))).toEqual([one]);
      const json = await trial.put('in.ndjson', lines.map((line) => `{"x":"${line}","k":"2024_01"}\n`).join(''));
      expect(x(await read({ uri: json }, of(dtype), { mapping: { x: 'x' } }))).toEqual([one]);
    }
  }
});

test('float16, float64 and bool', async () => {
  const input = await trial.put('in.csv', 'x\n1\n0\n0.1\n70000\ntrue\n');
  const half = await read({ uri: input }, of('float16'));
  expect([x(half), half.refused.map(([position]) => position)]).toEqual([[1, 0, 0.0999755859375], [3, 4]]);
  const double = await read({ uri: input }, of('float64', 1));
  expect([x(double), double.refused.map(([position]) => position)]).toEqual([[1, 0, 0.1, 70000], [4]]);
  const bool = await read({ uri: input }, of('bool'));
  expect([x(bool), bool.refused.map(([position]) => position)]).toEqual([[1, 0, 1], [2, 3]]);
});

test('strings: an empty field is an empty string; NUL is refused', async () => {
  const input = await trial.put('in.csv', 'x,y\n"a ""b"",\nc",\n,\n"d\0",\ne,\n');
  const { groups, refused } = await read({ uri: input }, of('string', 1), { mapping: { x: 'x' } });
  expect(groups.map(({ positions, tensors }) => [positions, valuesOf(tensors.x)])).toEqual([[[0, 1, 3], ['a "b",\nc', '', 'e']]]);
  expect(refused.map(([position]) => position)).toEqual([2]);
});

test('several inputs, from columns named like them or as the mapping says', async () => {
  const signature: Signature = {
    inputs: [{ name: 'age', dtype: 'int64', shape: ['n', 1] }, { name: 'place', dtype: 'string', shape: ['n', 1] }, { name: 'v', dtype: 'float32', shape: ['n', 2] }],
    outputs: [{ name: 'y', dtype: 'float32', shape: ['n'] }],
  };
  const input = await trial.put('in.csv', 'place,age,p,q\nHere,3,0.5,1\nThere,4,2,3\n');
  const { groups } = await read({ uri: input }, signature, { mapping: { v: ['q', 'p'] } });
  expect(Object.entries(groups[0]?.tensors ?? {}).map(([name, tensor]) => [name, tensor.shape, valuesOf(tensor)])).toEqual([
    ['age', [2, 1], [3n, 4n]], ['place', [2, 1], ['Here', 'There']], ['v', [2, 2], [1, 0.5, 3, 2]],
  ]);
});

test('an input’s name may have dots in it, also in batch files', async () => {
  const signature: Signature = { ...of('float32', 2), inputs: [{ name: 'input.1', dtype: 'float32', shape: [-1, 2] }] };
  for (const line of ['{"custom_id":"a","body":{"inputs":{"input.1":[1,2]}}}', '{"inputs":{"input.1":[1,2]}}', '{"input.1":[1,2]}']) {
    for (const rest of ['', '{"custom_id":"b"}\n']) {
      const { groups } = await read({ uri: await trial.put('in.jsonl', `${line}\n${rest}`) }, signature);
      expect([line, valuesOf(groups[0]?.tensors['input.1'])]).toEqual([line, [1, 2]]);
    }
  }
});

test('one column may serve twice, as different things', async () => {
  const input = await trial.put('in.csv', 'x,key\n1,a\n2,b\n');
  const { groups } = await read({ uri: input }, of('float32', 2), { mapping: { x: ['x', 'x'] }, id_column: 'x', carry: ['key'] });
  expect(valuesOf(groups[0]?.tensors.x)).toEqual([1, 1, 2, 2]);
});

test('lists in CSV, nested lists in NDJSON: only of exactly this shape', async () => {
  const csv = await trial.put('in.csv', 'x,k\n"[1, 2]",a\n"[1,2,3]",b\n[],c\n1,d\n"[3,4]",e\n');
  const lists = await read({ uri: csv }, of('float32', 2), { mapping: { x: 'x' } });
  expect([lists.groups[0]?.positions, x(lists), lists.refused.map(([position]) => position)]).toEqual([[0, 4], [1, 2, 3, 4], [1, 2, 3]]);
  const json = await trial.put('in.ndjson', '{"x":[[1,2],[3,4],[5,6]]}\n{"x":[[1,2,3],[4,5,6]]}\n{"x":[[1,2],[3,4],[5,null]]}\n{"x":[[1,2],null,[5,6]]}\n');
  const nested = await read({ uri: json }, of('float32', 3, 2));
  expect([x(nested), nested.refused.map(([position]) => position)]).toEqual([[1, 2, 3, 4, 5, 6], [1, 2, 3]]);
  expect(nested.groups[0]?.tensors.x?.shape).toEqual([1, 3, 2]);
});

test('lists may stand in one more, as in a prediction’s inputs: a batch of one', async () => {
  const lines = (...values: readonly string[]): Promise<string> => trial.put('in.ndjson', values.map((value) => `{"custom_id":"a","body":{"inputs":${value}}}\n`).join(''));
  const json = await read({ uri: await lines('[[1,2]]', '[[3,4],[5,6]]', '[]', '[[7,8]]', '[3,4]', '[[7,{}]]', '[[1,2,3]]', '[null]') }, of('float32', 2));
  expect([json.groups[0]?.positions, json.groups[0]?.tensors.x?.shape, x(json), json.refused.map(([position]) => position)]).toEqual([[0, 3], [2, 2], [1, 2, 7, 8], [1, 2, 4, 5, 6, 7]]);
  const open = await read({ uri: await lines('[["a"]]', '[["b","c"]]', '[["d"],["e"]]') }, of('string', 'length'));
  expect([open.groups.map(({ tensors }) => valuesOf(tensors.x)), open.refused.map(([position]) => position)]).toEqual([[['a'], ['b', 'c']], [2]]);
  const images = await read({ uri: await lines('[[[1,2],[3,4],[5,6]]]') }, of('int64', 3, 2));
  expect([images.groups[0]?.tensors.x?.shape, x(images)]).toEqual([[1, 3, 2], [1n, 2n, 3n, 4n, 5n, 6n]]);
  const csv = await read({ uri: await trial.put('in.csv', 'x,k\n"[[1, 2]]",a\n"[1, 2]",b\n"[[3,4]]",c\n') }, of('float32', 2), { mapping: { x: 'x' } });
  expect([x(csv), csv.refused.map(([position]) => position)]).toEqual([[1, 2, 3, 4], [1]]);
  const parquet = await read({ uri: await trial.parquet('in.parquet', 'SELECT * FROM (VALUES ([[1, 2]]), ([[3, 4], [5, 6]]), ([[7, 8]])) t(x)') }, of('float32', 2));
  expect([x(parquet), parquet.refused.map(([position]) => position)]).toEqual([[1, 2, 7, 8], [1]]);
});

test('rows of varying length come in groups of equal ones', async () => {
  const json = await trial.put('in.ndjson', '{"x":[1]}\n{"x":[2,3]}\n{"x":[4]}\n{"x":[5,6]}\n{"x":[]}\n{"x":"no"}\n');
  for (const dtype of ['int64', 'float32', 'string'] as const) {
    const { groups, refused } = await read({ uri: json }, of(dtype, 'length'));
    const value = (number: number): unknown => ({ int64: BigInt(number), float32: number, string: String(number) })[dtype];
    expect(groups.map(({ positions, tensors }) => [positions, tensors.x?.shape, valuesOf(tensors.x)])).toEqual([
      [[0, 2], [2, 1], [1, 4].map(value)], [[1, 3], [2, 2], [2, 3, 5, 6].map(value)], [[4], [1, 0], []],
    ]);
    expect(refused.map(([position]) => position)).toEqual([5]);
  }
});

test('Parquet: typed columns, arrays, nested lists, a NULL inside', async () => {
  const input = await trial.parquet('in.parquet', `SELECT * FROM (VALUES ([1, 2]::INTEGER[2], [[1], [2]], 'a'), ([3, NULL]::INTEGER[2], [[3], [4]], 'b'), ([5, 6]::INTEGER[2], [[5], [6, 7]], NULL)) t(x, nested, s)`);
  const arrays = await read({ uri: input }, of('int64', 2), { mapping: { x: 'x' } });
  expect([arrays.groups[0]?.positions, x(arrays), arrays.refused.map(([position]) => position)]).toEqual([[0, 2], [1n, 2n, 5n, 6n], [1]]);
  const nested = await read({ uri: input }, of('float32', 2, 1), { mapping: { x: 'nested' } });
  expect([nested.groups[0]?.positions, x(nested), nested.refused.map(([position]) => position)]).toEqual([[0, 1], [1, 2, 3, 4], [2]]);
  const strings = await read({ uri: input }, of('string'), { mapping: { x: 's' } });
  expect([x(strings), strings.refused]).toEqual([['a', 'b'], [[2, 'column "s": expected a string of whole Unicode characters, none of them NUL (ONNX Runtime’s binding would cut it there), got nothing']]]);
});

test('other delimiters, quotes, encodings and no header', async () => {
  const tabs = await trial.put('in.tsv', '\ufeffp\tq\n1\t2\n');
  expect(x(await read({ uri: tabs }, of('float32', 2)))).toEqual([1, 2]);
  const headless = await trial.put('in.txt', '\'1\';2\n3;\'4\'\n');
  expect(x(await read({ uri: headless, delimiter: ';', quote: '\'', header: false }, of('float32', 2), { mapping: { x: ['column1', 'column0'] } }))).toEqual([2, 1, 4, 3]);
  const wide = await trial.put('wide.csv', Buffer.from('\ufeffk,x\né,1\n', 'utf16le'));
  expect(x(await read({ uri: wide, encoding: 'utf-16le' }, of('string'), { mapping: { x: 'k' } }))).toEqual(['é']);
  const latin = await trial.put('latin.csv', Buffer.from('k,x\né,1\n', 'latin1'));
  expect(x(await read({ uri: latin, encoding: 'latin-1' }, of('string'), { mapping: { x: 'k' } }))).toEqual(['é']);
  const escaped = await trial.put('escaped.csv', 'k,x\n"a\\"b",1\n"c\\\\",2\n');
  expect(x(await read({ uri: escaped, escape: '\\' }, of('string'), { mapping: { x: 'k' } }))).toEqual(['a"b', 'c\\']);
});
