import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FaultList } from './plain.ts';
import { isBatched, readInputs, type Signature } from './signature.ts';
import { numbersOf, type NumericTensor } from './tensor.ts';

const one: Signature = {
  inputs: [{ name: 'x', dtype: 'float32', shape: ['batch', 4] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: [-1, 3] }],
};
const two: Signature = {
  inputs: [{ name: 'a', dtype: 'int64', shape: ['n', 2] }, { name: 'b', dtype: 'bool', shape: ['n', 'width'] }],
  outputs: [{ name: 'y', dtype: 'float32', shape: ['n'] }],
};

function read(signature: Signature, value: unknown) {
  const faults = new FaultList();
  return { checked: readInputs({ signature, batched: isBatched(signature) }, value, '#/inputs', faults), faults: faults.faults };
}

test('the bare array, the map and the tensor object are the same input', () => {
  const nested = [[1, 2, 3, 4], [5, 6, 7, 8]];
  const bytes = Buffer.from(Float32Array.from(nested.flat()).buffer).toString('base64');
  const forms = [nested, { x: nested }, { dtype: 'float32', shape: [2, 4], data: nested.flat() }, { x: { dtype: 'float32', shape: [2, 4], data: bytes } }];
  for (const form of forms) {
    const { checked, faults } = read(one, form);
    expect(faults).toEqual([]);
    expect(checked?.rows).toBe(2);
    expect([...numbersOf(checked?.inputs['x'] as NumericTensor)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  }
});

test.each([
  ['too few columns', [[1, 2, 3]], '#/inputs', 'expected float32 of shape [batch, 4], got shape [1, 3]'],
  ['a row alone', [1, 2, 3, 4], '#/inputs', 'expected float32 of shape [batch, 4], got shape [4]'],
  ['too deep', [[[1, 2, 3, 4]]], '#/inputs', 'expected float32 of shape [batch, 4], got shape [1, 1, 4, …]'],
  ['no array', 7, '#/inputs', 'expected float32 of shape [batch, 4], got no array'],
  ['a ragged row', [[1, 2, 3, 4], [1, 2, 3]], '#/inputs/1', 'expected an array of 4, got an array of 3'],
  ['null for NaN', [[1, null, 3, 4]], '#/inputs/0/1', 'expected a float32 as a number, or "NaN", "Infinity", "-Infinity" as a string, got null'],
  ['text', [[1, 2, 'three', 4]], '#/inputs/0/2', 'expected a float32 as a number, or "NaN", "Infinity", "-Infinity" as a string, got the string "three"'],
  ['beyond float32', [[1, 2, 3, 1e39]], '#/inputs/0/3', 'expected a float32 as a number, or "NaN", "Infinity", "-Infinity" as a string, got 1e+39'],
  ['no rows', [], '#/inputs', 'expected float32 of shape [batch, 4], got shape [0]'],
  ['another name', { z: [[1, 2, 3, 4]] }, '#/inputs/x', 'missing input: expected float32 of shape [batch, 4]'],
  ['another dtype', { x: { dtype: 'int64', shape: [1, 4], data: [1, 2, 3, 4] } }, '#/inputs/x/dtype', 'expected float32, got the string "int64"'],
  ['too few bytes', { x: { dtype: 'float32', shape: [1, 4], data: 'AAAA' } }, '#/inputs/x/data', 'expected 16 bytes for float32 of shape [1, 4], got 3'],
  ['no base64', { x: { dtype: 'float32', shape: [1, 4], data: 'ab=c' } }, '#/inputs/x/data', 'expected base64 (RFC 4648 §4, padded) of little-endian bytes'],
])('%s is refused at its place', (_name, value, pointer, detail) => {
  const { checked, faults } = read(one, value);
  expect(checked).toBeUndefined();
  expect(faults[0]).toEqual({ pointer, detail });
});

test('every fault is reported at once', () => {
  const { faults } = read(two, { a: [[1, 1.5], [2 ** 60, 4]], b: [[true], [0]], 'c/d': 1 });
  expect(faults.map(({ pointer }) => pointer)).toEqual(['#/inputs/a/0/1', '#/inputs/a/1/0', '#/inputs/b/1/0', '#/inputs/c~1d']);
});

test('a small request cannot ask for a large allocation', () => {
  const wide: Signature = { inputs: [{ name: 'x', dtype: 'float32', shape: ['batch', 'width'] }], outputs: [{ name: 'y', dtype: 'float32', shape: ['batch'] }] };
  const { checked, faults } = read(wide, [Array.from({ length: 100_000 }, () => 0), ...Array.from({ length: 100_000 }, () => [])]);
  expect([checked, faults[0]]).toEqual([undefined, { pointer: '#/inputs/1', detail: 'expected an array of 100000, got an array of 0' }]);
});

test('inputs must agree on the rows', () => {
  const { faults } = read(two, { a: [[1, 2]], b: [[true], [false]] });
  expect(faults).toEqual([{ pointer: '#/inputs/b', detail: 'expected bool of shape [n, width], got shape [2, 1] (n is 1 in another input)' }]);
});

test('integers beyond 2^53 are kept exactly or refused, never rounded', () => {
  const big = 9_007_199_254_740_993n;
  const { checked } = read(two, { a: [[big, -(2n ** 63n)]], b: [[true]] });
  expect([...numbersOf(checked?.inputs['a'] as NumericTensor)]).toEqual([big, -(2n ** 63n)]);
  expect(read(two, { a: [[2n ** 63n, 0]], b: [[true]] }).faults[0]?.pointer).toBe('#/inputs/a/0/0');
  expect(read(two, { a: [[2 ** 53, 0]], b: [[true]] }).faults[0]?.pointer).toBe('#/inputs/a/0/0');
});

test('a model is batched where the first dimension is dynamic everywhere and named alike', () => {
  expect(isBatched(one)).toBe(true);
  expect(isBatched(two)).toBe(true);
  expect(isBatched({ ...one, inputs: [{ name: 'x', dtype: 'float32', shape: [1, 4] }] })).toBe(false);
  expect(isBatched({ ...one, outputs: [{ name: 'y', dtype: 'float32', shape: [] }] })).toBe(false);
  expect(isBatched({ ...two, inputs: [{ name: 'a', dtype: 'int64', shape: ['n'] }, { name: 'b', dtype: 'int64', shape: ['m'] }] })).toBe(false);
});

test('nothing that JSON can say breaks the reader', () => {
  fc.assert(fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
    for (const signature of [one, two]) {
      const { checked, faults } = read(signature, value);
      expect(checked === undefined).toBe(faults.length > 0);
    }
  }));
});
