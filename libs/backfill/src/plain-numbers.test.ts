import type { Dtype, NumericArray, Signature } from '@millrace/protocol';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Plan } from './plan.ts';
import { readPlainNumbers } from './plain-numbers.ts';
import { duckTypeOf } from './read-sql.ts';
import { Trial } from './trial.ts';

let trial: Trial;
beforeAll(async () => {
  trial = await Trial.open();
});
afterAll(() => trial.close());

const signatureOf = (dtype: Dtype): Signature => ({ inputs: [{ name: 'x', dtype, shape: [-1, 2] }], outputs: [{ name: 'y', dtype: 'float32', shape: [-1] }] });

async function planFor(dtype: Dtype, more: object = {}): Promise<Plan> {
  const uri = await trial.put('shape.csv', 'id,a,b,rest\nk,1,2,z\n');
  return trial.check({ input: { uri }, output: { uri: trial.path('out.csv') }, mapping: { x: ['b', 'a'] }, id_column: 'id', ...more }, { signature: signatureOf(dtype) });
}

const exponents = fc.integer({ min: -30, max: 30 });
const numbers = fc.oneof(
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(String),
  fc.float({ noNaN: true, noDefaultInfinity: true }).map(String),
  fc.tuple(fc.double({ min: -1000, max: 1000, noNaN: true }), fc.integer({ min: 0, max: 20 })).map(([value, digits]) => value.toFixed(digits)),
  fc.tuple(fc.double({ min: -1000, max: 1000, noNaN: true }), exponents).map(([value, exponent]) => `${value.toPrecision(5)}E${exponent >= 0 ? '+' : ''}${exponent}`.replace(/e[+-]\d+(?=E)/, '')),
  // Near and at the middle between two float32s.
  fc.tuple(fc.integer({ min: 2 ** 24, max: 2 ** 26 }), fc.integer({ min: 0, max: 9 }), fc.constantFrom('', '000000000000001', '00001', '5')).map(([whole, digit, rest]) => `${whole}.${digit}${rest}`),
  fc.tuple(fc.integer({ min: 0, max: 99_999_999 }), fc.integer({ min: 0, max: 8 })).map(([digits, places]) => (digits / 10 ** places).toFixed(places)),
  fc.integer().map(String),
  fc.integer({ min: 0, max: 255 }).map(String),
  fc.constantFrom('0', '-0', '.5', '1.', '00012', '16777217', '0.1', '1e22', '1e23', '123456789012345678'),
);

test.each(['float32', 'float64', 'int32', 'uint8'] as const)('%s: the same as DuckDB, to the last bit, or nothing', async (dtype) => {
  const plan = await planFor(dtype);
  const isFloat = dtype.startsWith('float');
  const type = isFloat ? duckTypeOf(dtype) : 'DOUBLE';
  let taken = 0;
  await fc.assert(fc.asyncProperty(fc.array(fc.tuple(numbers, numbers), { minLength: 1, maxLength: 3 }), fc.constantFrom('\n', '\r\n'), async (pairs, end) => {
    const text = pairs.map(([a, b], index) => `k${index},${a},${b},rest${end}`).join('');
    const plain = await readPlainNumbers(plan, Buffer.from(text), pairs.length);
    if (!plain) return;
    taken++;
    const path = await trial.put('numbers.csv', text);
    const rows = await trial.query(`SELECT b, a FROM read_csv('${path}', auto_detect = false, header = false, columns = {id: 'VARCHAR', a: '${type}', b: '${type}', rest: 'VARCHAR'})`);
    expect(plain.inputs.flatMap(({ data }) => [...(data as NumericArray)])).toEqual(rows.flat().map((value) => (isFloat ? value : (value as number) + 0)));
    expect(plain.kept).toEqual([pairs.map((_pair, index) => `k${index}`)]);
  }), { numRuns: 300 });
  expect(taken).toBeGreaterThan(0);
});

test('gives up on what is not plain', async () => {
  const plan = await planFor('float32');
  const whole = await planFor('int32');
  const read = (text: string, rows = 1, by = plan) => readPlainNumbers(by, Buffer.from(text), rows);
  expect(await read('k,1,2,z\n\n\r\nk,3,4,\n', 2)).toMatchObject({ kept: [['k', 'k']], inputs: [{ data: new Float32Array([2, 1, 4, 3]) }] });
  expect(await read(',-1.5e-3,2,z')).toMatchObject({ kept: [[null]], inputs: [{ data: new Float32Array([2, -0.0015]) }] });
  for (const text of ['k,1,x,z\n', 'k, 1,2,z\n', 'k,+1,2,z\n', 'k,nan,2,z\n', 'k,,2,z\n', 'k,1,2\n', 'k,1,2,z,\n', 'k,1,2,z,5\n', '"k",1,2,z\n', 'k"k,1,2,z\n', 'k,1,2,"z\n"\n', 'é,1,2,z\n', 'k,1_0,2,z\n', 'k,1e999,2,z\n', 'k,1e,2,z\n', 'k,-,2,z\n', 'k,.,2,z\n', 'k,1\r,2,z\n', 'k,1e39,2,z\n', 'k,1,2,z\nk,1,2,z\n', '\n']) {
    expect([text, await read(text)]).toEqual([text, undefined]);
  }
  expect(await read('k,1,2.5,z\n', 1, whole)).toBeUndefined();
  expect(await read('k,1,2147483648,z\n', 1, whole)).toBeUndefined();
  expect(await read('k,1,2e0,z\n', 1, whole)).toMatchObject({ inputs: [{ data: new Int32Array([2, 1]) }] });
});

test('missing numbers are NaN where the job says so; lists, strings and columns used twice are left to DuckDB', async () => {
  const missing = await planFor('float32', { input: { uri: trial.path('shape.csv'), missing: 'nan' } });
  expect(await readPlainNumbers(missing, Buffer.from('k,,2,z\n'), 1)).toMatchObject({ inputs: [{ data: new Float32Array([2, NaN]) }] });
  expect(await readPlainNumbers(await planFor('float32', { mapping: { x: ['a', 'a'] } }), Buffer.from('k,1,2,z\n'), 1)).toBeUndefined();
  expect(await readPlainNumbers(await planFor('string'), Buffer.from('k,1,2,z\n'), 1)).toBeUndefined();
});
