import { expect, test } from 'vitest';
import { parseModelRef } from './model-ref.ts';
import { newBundleId, parsePredictionId, predictionId } from './prediction.ts';

test('an id says where its prediction is and when it was bundled', () => {
  const bundleId = newBundleId('gpu');
  const address = parsePredictionId(predictionId(bundleId, 63));
  expect(address).toMatchObject({ bundleId, index: 63, pool: 'gpu' });
  expect(Math.abs(Date.now() - (address?.bundledAt ?? 0))).toBeLessThan(5000);
});

test('ids are ordered by time and never repeat', () => {
  const ids = Array.from({ length: 1000 }, () => newBundleId('default'));
  const times = ids.map((id) => parsePredictionId(`${id}-0`)?.bundledAt ?? 0);
  expect(times.toSorted((a, b) => a - b)).toEqual(times);
  expect(new Set(ids).size).toBe(ids.length);
});

test.each(['', 'x', 'default-0', 'default-01234567890a7123456789012345678-0', `${newBundleId('default')}-007`, `${newBundleId('default')}-100`, `${newBundleId('default')}-0:lock`, '../x'])('"%s" is no id', (id) => {
  expect(parsePredictionId(id)).toBeUndefined();
});

test.each([
  ['iris', { name: 'iris' }],
  ['iris@2', { name: 'iris', version: 2 }],
  ['iris@champion', { name: 'iris', alias: 'champion' }],
  ['a.b-c_d@1', { name: 'a.b-c_d', version: 1 }],
])('%s is a model reference', (text, ref) => {
  expect(parseModelRef(text)).toEqual(ref);
});

test.each(['', 'Iris', 'iris@', 'iris@0', 'iris@01', 'iris@A', 'a/b', '..', 'a..b', 'iris@2@3'])('"%s" is no model reference', (text) => {
  expect(parseModelRef(text)).toBeUndefined();
});
