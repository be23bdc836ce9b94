import { bytesOf, type Tensor } from '@millrace/protocol';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { csvText } from './csv-text.ts';
import type { RowsDone } from './part.ts';
import type { OutputPlan, Plan } from './plan.ts';
import { Trial } from './trial.ts';

let trial: Trial;
beforeAll(async () => { trial = await Trial.open(); });
afterAll(() => trial.close());

const output = (dtype: OutputPlan['dtype'], width = 1): OutputPlan => ({ name: dtype, dtype, rowShape: width === 1 ? [] : [width], form: width === 1 ? 'value' : 'expanded' });
const planOf = (outputs: readonly OutputPlan[], more: object = {}) => ({ outputFormat: 'csv', outputs, carry: [], labels: false, ...more }) as unknown as Plan;
const positions = (count: number) => Int32Array.from({ length: count }, (_, position) => position);
const read = (word: string) => Math.fround(Number(word.replace(/inf$/, 'Infinity')));
const decode = (bytes: Uint8Array | undefined) => Buffer.from(bytes as Uint8Array).toString();

function textOf(floats: Float32Array): string[] {
  const done: RowsDone[] = [{ positions: positions(floats.length), outputs: { float32: { dtype: 'float32', shape: [floats.length], data: bytesOf(floats) } } }];
  return decode(csvText(planOf([output('float32')]), done, { firstRow: 1, rows: floats.length, kept: undefined })).trim().split('\n').map((line) => line.split(',')[1] as string);
}

test('every float32 reads back as it was, in no more than nine digits', () => {
  fc.assert(fc.property(fc.array(fc.integer({ min: 0, max: 0xffffffff }), { minLength: 1, maxLength: 200 }), (bits) => {
    const floats = new Float32Array(Uint32Array.from(bits).buffer);
    const words = textOf(floats);
    expect(words.map(read)).toEqual([...floats]);
    expect(words.filter((word) => word.replace(/e.*/, '').replaceAll(/^[-0.]+|\./g, '').length > 9)).toEqual([]);
  }), { numRuns: 500 });
});

test('numbers are written as DuckDB writes them, and DuckDB reads what they were', async () => {
  const floats = Float32Array.of(0, -0, 1, -1.5, 0.1, 16, 1e-4, 9.99e-5, 6.914789e-7, 0.9981875, 123456.7, 1e6, 3.4028235e38, 1e-45, 1.1754944e-38, 16777216, NaN, Infinity, -Infinity, 0.333333343, 5e-324);
  const words = textOf(floats);
  expect(words.slice(0, 13)).toEqual(['0.0', '-0.0', '1.0', '-1.5', '0.1', '16.0', '0.0001', '9.99e-05', '6.914789e-07', '0.9981875', '123456.7', '1000000.0', '3.4028235e38']);
  await trial.put('floats.csv', `${words.join('\n')}\n`);
  const rows = await trial.query(`SELECT column0::VARCHAR FROM read_csv('${trial.path('floats.csv')}', header = false, columns = {column0: 'FLOAT'})`);
  expect(rows.map(([text]) => read(String(text)))).toEqual([...floats]);
});

test('rows stand in their order whatever ran together; those that failed are left out', () => {
  const column = (values: readonly number[]): Record<string, Tensor> => ({ int64: { dtype: 'int64', shape: [values.length], data: bytesOf(BigInt64Array.from(values, BigInt)) } });
  const done: RowsDone[] = [{ positions: Int32Array.of(0, 3), outputs: column([10, 13]), labels: ['a', 'b, c'] }, { positions: Int32Array.of(2), outputs: column([12]), labels: ['"'] }];
  const kept = [['x', 'y', 'z', null]];
  const plan = planOf([output('int64')], { carry: [{ name: 'k', path: ['k'] }], labels: true });
  expect(decode(csvText(plan, done, { firstRow: 5, rows: 4, kept }))).toBe('5,x,10,a\n7,z,12,""""\n8,,13,"b, c"\n');
});

test('lists, and columns that DuckDB has read, are left to it', () => {
  expect(csvText(planOf([{ ...output('float32', 2), form: 'list' }]), [], { firstRow: 1, rows: 0, kept: undefined })).toBeUndefined();
  expect(csvText(planOf([], { carry: [{ name: 'k', path: ['k'] }] }), [], { firstRow: 1, rows: 0, kept: undefined })).toBeUndefined();
  expect(csvText(planOf([], { outputFormat: 'ndjson' }), [], { firstRow: 1, rows: 0, kept: undefined })).toBeUndefined();
});
