import fc from 'fast-check';
import { expect, test } from 'vitest';
import { FaultList, readFlat, readNested, toPlain } from './plain.ts';
import { arrayTypes, bytesOf, type Dtype, fromWireAll, type NumericDtype, type Tensor, toWireAll } from './tensor.ts';

const values: Record<Dtype, fc.Arbitrary<unknown>> = {
  float32: fc.float({ noNaN: false }), float64: fc.double(), float16: fc.constantFrom(0, -1.5, 65_504, Infinity, NaN),
  int8: fc.integer({ min: -128, max: 127 }), int16: fc.integer({ min: -32_768, max: 32_767 }), int32: fc.integer(),
  int64: fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), uint8: fc.integer({ min: 0, max: 255 }), uint16: fc.integer({ min: 0, max: 65_535 }),
  uint32: fc.integer({ min: 0, max: 4_294_967_295 }), uint64: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), bool: fc.constantFrom(0, 1), string: fc.string().filter((text) => !text.includes('\0')),
};

function tensorOf(dtype: Dtype, elements: readonly unknown[]): Tensor {
  const shape = [2, elements.length / 2];
  if (dtype === 'string') return { dtype, shape, data: elements as string[] };
  const numbers = new arrayTypes[dtype as NumericDtype](elements.length);
  for (const [index, element] of elements.entries()) (numbers as unknown as unknown[])[index] = element;
  return { dtype, shape, data: bytesOf(numbers) };
}

/** As the API's parser reads it: integers keep their digits. */
function parse(text: string): unknown {
  return JSON.parse(text, ((_key: string, value: unknown, context: { source?: string }) =>
    (typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context.source ?? '') ? BigInt(context.source ?? '') : value)) as never);
}

test.each(Object.entries(values))('%s survives every form and the wire, bit for bit', (name, element) => {
  const dtype = name as Dtype;
  fc.assert(fc.property(fc.array(element, { minLength: 2, maxLength: 8 }).filter(({ length }) => length % 2 === 0), (elements) => {
    const tensor = tensorOf(dtype, elements);
    const faults = new FaultList();
    const read = (data: unknown) => readFlat(data, dtype, tensor.shape, '#', faults);
    const through = (format: 'flat' | 'base64') => read((parse(JSON.stringify(toPlain(tensor, format))) as { data: unknown }).data);
    const nested = readNested(parse(JSON.stringify(toPlain(tensor, 'nested'))), dtype, tensor.shape, '#', faults);
    const wired = fromWireAll(JSON.parse(JSON.stringify(toWireAll({ t: tensor }))))['t'];
    for (const back of [nested, through('flat'), through('base64'), wired]) expect(content(back)).toEqual(content(tensor));
    expect(faults.faults).toEqual([]);
  }), { numRuns: 50 });
});

/** -0 is 0 in JSON's integers and NaN has many bit patterns, so numbers are compared by value. */
function content(tensor: Tensor | undefined): unknown {
  return JSON.stringify(toPlain(tensor as Tensor, 'flat')).replaceAll('-0,', '0,').replaceAll('-0]', '0]');
}

test('what JSON cannot hold comes out as text, big integers as their digits', () => {
  expect(JSON.stringify(toPlain(tensorOf('float32', [NaN, Infinity, -Infinity, 1]), 'nested'))).toBe('[["NaN","Infinity"],["-Infinity",1]]');
  expect(JSON.stringify(toPlain(tensorOf('int64', [9_007_199_254_740_993n, -1n]), 'nested'))).toBe('[[9007199254740993],[-1]]');
  expect(JSON.stringify(toPlain(tensorOf('bool', [1, 0]), 'nested'))).toBe('[[true],[false]]');
  expect(JSON.stringify(toPlain({ dtype: 'float32', shape: [], data: bytesOf(Float32Array.of(2.5)) }, 'nested'))).toBe('2.5');
});

test('strings must be whole Unicode and at most so many faults are listed', () => {
  const faults = new FaultList();
  readFlat(['\ud800', 'ok'], 'string', [2], '#', faults);
  expect(faults.faults).toHaveLength(1);
  readFlat(Array.from({ length: 1000 }, () => 'x'), 'float32', [1000], '#', faults);
  expect(faults.faults).toHaveLength(20);
});
