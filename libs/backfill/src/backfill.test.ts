import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Trial } from './trial.ts';

let trial: Trial;
beforeEach(async () => {
  trial = await Trial.open();
});
afterEach(() => trial.close());

const numbered = (from: number, to: number): string => Array.from({ length: to - from }, (_, index) => `k${from + index},${from + index},0.5\n`).join('');

test('CSV in, CSV out: the id, the outputs as columns, in order over many chunks', async () => {
  const input = await trial.put('in.csv', `key,a,b\n${numbered(0, 100)}`);
  const manifest = await trial.run({ input: { uri: input }, output: { uri: trial.path('out.csv') }, id_column: 'key' }, { limits: { rows: 7 } });
  const lines = (await trial.read('out.csv')).split('\n');
  expect(lines.slice(0, 3)).toEqual(['key,sum,same_0,same_1', 'k0,0.5,0.0,0.5', 'k1,1.5,1.0,0.5']);
  expect(lines).toHaveLength(102);
  expect(lines.slice(1, -1).map((line) => line.split(',')[0])).toEqual(Array.from({ length: 100 }, (_, index) => `k${index}`));
  expect(manifest).toMatchObject({ rows: { input: 100, output: 100, failed: 0 }, chunks: 15, errors: null, model: { name: 'pairs', digest: 'abc' } });
  expect(await trial.names()).toEqual(['in.csv', 'out.csv', 'out.manifest.json']);
});

test('many files, compressed or not, are read in the order of their names', async () => {
  await trial.put('in-2.csv', `\n\r\na,b\n${'2,2\n'.repeat(3)}`);
  await trial.put('in-1.csv.gz', gzipSync(`a,b\n${'1,1\n'.repeat(3)}`));
  await trial.put('in-3.csv', `a,b\n${'3,3\n'.repeat(3)}`);
  await trial.run({ input: { uri: trial.path('in-*.csv*'), format: 'csv' }, output: { uri: trial.path('out.ndjson') } }, { limits: { rows: 2 } });
  expect(await trial.readJson('out.ndjson')).toEqual([2, 2, 2, 4, 4, 4, 6, 6, 6].map((sum, index) => ({ row: index + 1, sum, same: [sum / 2, sum / 2] })));
});

test('rows that cannot be taken go to the error file with their number, line, reason and original', async () => {
  const input = await trial.put('in.csv', 'key,a,b\nk1,1,2\nk2,x,2\n\nk3,1\n"k\n4",3,\nk5,"1",5\nk6,1,2,3,4\nk7,"open,1\n');
  const manifest = await trial.run({ input: { uri: input }, output: { uri: trial.path('out.csv') }, id_column: 'key' });
  expect(await trial.read('out.csv')).toBe('key,sum,same_0,same_1\nk1,3.0,1.0,2.0\nk5,6.0,1.0,5.0\n');
  const errors = await trial.readJson('out.errors.ndjson');
  expect(errors.map(({ file, code, ...error }) => [file === input, code, error])).toEqual([
    { row: 2, id: 'k2', line: 3, reason: 'column "a": expected a float32 as a number, or "NaN", "Infinity", "-Infinity" as a string, got the string "x"', original: 'k2,x,2' },
    { row: 3, id: null, line: 5, reason: 'expected 3 fields, got 2', original: 'k3,1' },
    { row: 4, id: 'k\n4', line: 6, reason: 'column "b": expected a float32 as a number, or "NaN", "Infinity", "-Infinity" as a string, got nothing', original: '"k\n4",3,' },
    { row: 6, id: null, line: 9, reason: 'expected 3 fields, got 5', original: 'k6,1,2,3,4' },
    { row: 7, id: null, line: 10, reason: 'the quotes that open in field 2 are not closed', original: 'k7,"open,1' },
  ].map((error) => [true, 'invalid-row', error]));
  expect(manifest).toMatchObject({ rows: { input: 7, output: 2, failed: 5 }, errors: { rows: 5 } });
});

test('a missing number is NaN where the job says so', async () => {
  const input = await trial.put('in.csv', 'a,b\n1,\n,2\n');
  await trial.run({ input: { uri: input, missing: 'nan' }, output: { uri: trial.path('out.ndjson') } });
  expect(await trial.readJson('out.ndjson')).toEqual([
    { row: 1, sum: 'NaN', same: [1, 'NaN'] },
    { row: 2, sum: 'NaN', same: ['NaN', 2] },
  ]);
});

test('NDJSON in, Parquet out: carried members stay beside the outputs', async () => {
  const input = await trial.put('in.ndjson', '{"x":[1,2],"user":{"name":"é"},"n":7}\n{"x":[3,4],"user":{"name":"b"}}\n');
  await trial.run({ input: { uri: input }, output: { uri: trial.path('out.parquet') }, carry: ['user.name', 'n'] });
  expect(await trial.query(`FROM '${trial.path('out.parquet')}'`)).toEqual([['1', 'é', '7', 3, [1, 2]], ['2', 'b', null, 7, [3, 4]]]);
});

test('lines in the shape of batch files need no mapping', async () => {
  const line = (id: string, x: unknown): string => `${JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/x', body: { model: 'pairs', inputs: { x } } })}\n`;
  const input = await trial.put('in.jsonl', line('a', [1, 2]) + line('b', [1, 2, 3]) + line('c', 'no') + line('d', [5, 6]));
  await trial.run({ input: { uri: input }, output: { uri: trial.path('out.ndjson') } });
  expect(await trial.readJson('out.ndjson')).toEqual([{ custom_id: 'a', sum: 3, same: [1, 2] }, { custom_id: 'd', sum: 11, same: [5, 6] }]);
  expect((await trial.readJson('out.errors.ndjson')).map(({ row, id, reason }) => [row, id, reason])).toEqual([
    [2, 'b', 'column "body.inputs.x": expected a list of shape [2] of float32, got an array of 3'],
    [3, 'c', 'column "body.inputs.x": expected a list of shape [2] of float32, got the string "no"'],
  ]);
});

test('Parquet in and out: columns or lists, ranges of row groups, rows with NULL refused', async () => {
  const input = await trial.parquet('in.parquet', 'SELECT i AS id, i::DOUBLE AS a, CASE WHEN i = 500 THEN NULL ELSE 0.5 END AS b, [i, 1] AS both, {t: i} AS extra FROM range(1000) t(i)', ', ROW_GROUP_SIZE 2048');
  const manifest = await trial.run({ input: { uri: input }, output: { uri: trial.path('out.parquet') }, mapping: { x: ['a', 'b'] }, id_column: 'id', carry: ['extra'] }, { limits: { rows: 100 } });
  expect(manifest).toMatchObject({ rows: { input: 1000, output: 999, failed: 1 }, chunks: 10 });
  expect(await trial.query(`SELECT count(*), min(id), max(id), bool_and(sum = id + 0.5), bool_and(extra.t = id), bool_and(same = [id, 0.5]) FROM '${trial.path('out.parquet')}'`)).toEqual([['999', '0', '999', true, true, true]]);
  expect(await trial.query(`SELECT bool_and(id > before) FROM (SELECT id, lag(id) OVER () AS before FROM '${trial.path('out.parquet')}')`)).toEqual([[true]]);
  const [error] = await trial.readJson('out.errors.ndjson');
  expect(error).toMatchObject({ row: 501, id: '500', code: 'invalid-row', original: '{"id":500,"a":500.0,"b":null,"both":[500,1],"extra":{"t":500}}' });
  expect(error).not.toHaveProperty('line');

  await trial.work.clear();
  await trial.run({ input: { uri: input }, output: { uri: trial.path('lists.parquet') }, mapping: { x: 'both' } });
  expect(await trial.query(`SELECT count(*), bool_and(sum = "row") FROM '${trial.path('lists.parquet')}'`)).toEqual([['1000', true]]);
});
