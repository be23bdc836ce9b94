import { describe, expect, test } from 'vitest';
import { labelsOf } from './labels.ts';
import { tensorOf } from './sample-version.ts';

const colours = ['red', 'green', 'blue'];
const scores = tensorOf('float32', [2, 3], new Float32Array([0.1, 0.2, 0.7, 5, 5, -1]));

describe('labelsOf', () => {
  test('takes integers for indices, and prefers them to scores', () => {
    expect(labelsOf({ scores, label: tensorOf('int64', [2], new BigInt64Array([2n, 0n])) }, colours, 2)).toEqual(['blue', 'red']);
    expect(labelsOf({ label: tensorOf('uint8', [2, 1], new Uint8Array([1, 0])) }, colours, 2)).toEqual(['green', 'red']);
  });

  test('takes the largest score, the first where some are equal', () => {
    expect(labelsOf({ scores }, colours, 2)).toEqual(['blue', 'red']);
    expect(labelsOf({ scores: tensorOf('float16', [1, 3], new Float16Array([0, 1, 0.5])) }, colours, 1)).toEqual(['green']);
  });

  test('leaves integers aside that are no indices', () => {
    for (const indices of [[0n, 3n], [-1n, 0n], [2n ** 60n, 0n]]) {
      expect(labelsOf({ ids: tensorOf('int64', [2], new BigInt64Array(indices)), scores }, colours, 2)).toEqual(['blue', 'red']);
    }
    expect(labelsOf({ flags: tensorOf('bool', [2], new Uint8Array([1, 0])) }, colours, 2)).toBeUndefined();
  });

  test('takes strings that are labels', () => {
    expect(labelsOf({ name: { dtype: 'string', shape: [2], data: ['blue', 'red'] } }, colours, 2)).toEqual(['blue', 'red']);
    expect(labelsOf({ name: { dtype: 'string', shape: [2], data: ['blue', 'pink'] } }, colours, 2)).toBeUndefined();
  });

  test('says nothing where there are no labels, no rows to match, or no best score', () => {
    expect(labelsOf({ scores }, [], 2)).toBeUndefined();
    expect(labelsOf({ scores }, ['red', 'green'], 2)).toBeUndefined();
    expect(labelsOf({ scores }, colours, 3)).toBeUndefined();
    expect(labelsOf({ scores: tensorOf('float32', [1, 3], new Float32Array([NaN, NaN, NaN])) }, colours, 1)).toBeUndefined();
    expect(labelsOf({}, colours, 1)).toBeUndefined();
  });

  test('reads views that are not aligned', () => {
    const bytes = new Uint8Array(new Float32Array([0, 9, 1]).buffer);
    const shifted = new Uint8Array(13);
    shifted.set(bytes, 1);
    expect(labelsOf({ scores: { dtype: 'float32', shape: [1, 3], data: shifted.subarray(1) } }, colours, 1)).toEqual(['green']);
  });
});
