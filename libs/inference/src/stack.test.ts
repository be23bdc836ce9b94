import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { tensorOf } from './sample-version.ts';
import { sliceRows, split, stack } from './stack.ts';
import type { BatchItem } from './stack.ts';
import type { Segment } from './thread-messages.ts';

/** Predictions of one model: bytes, wide numbers and strings, so that inputs of odd lengths follow each other. */
const items = fc.record({ width: fc.integer({ min: 1, max: 3 }), rows: fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 8 }) })
  .map(({ width, rows: counts }) => counts.map((rows, item): BatchItem => {
    const count = rows * width;
    return {
      rows,
      inputs: {
        flags: tensorOf('uint8', [rows, width], Uint8Array.from({ length: count }, (_, at) => item * 16 + at)),
        ids: tensorOf('int64', [rows, width], BigInt64Array.from({ length: count }, (_, at) => BigInt(item * 16 + at))),
        words: { dtype: 'string', shape: [rows, width], data: Array.from({ length: count }, (_, at) => `${item}/${at}`) },
      },
    };
  }));

const plain = (item: BatchItem) => Object.fromEntries(Object.entries(item.inputs).map(
  ([name, { dtype, shape, data }]) => [name, { dtype, shape: [...shape], data: [...data] }],
));

describe('stack and split', () => {
  test('give every item its own rows back, however they were cut into runs', () => {
    fc.assert(fc.property(items, fc.nat(), (batch, seed) => {
      const { inputs, rows } = stack(batch);
      const middle = seed % batch.length;
      const segments: Segment[] = [];
      for (const [from, to] of [[0, middle], [middle, batch.length]] as const) {
        const [fromRow, toRow] = [from, to].map((end) => rows.slice(0, end).reduce((sum, count) => sum + count, 0)) as [number, number];
        if (to > from) segments.push({ ok: true, items: to - from, rows: toRow - fromRow, inferenceMs: 1, outputs: sliceRows(inputs, fromRow, toRow) });
      }
      const outcomes = split(batch, { segments, warnings: [] });
      const back = outcomes.map((outcome, index) => outcome.ok && plain({ inputs: outcome.outputs, rows: rows[index] as number }));
      expect(back).toEqual(batch.map(plain));
    }));
  });

  test('every input can be viewed in place', () => {
    fc.assert(fc.property(items, (batch) => {
      const offsets = stack(batch).inputs.map(({ data }) => (data instanceof Uint8Array ? data.byteOffset % 8 : 0));
      expect(offsets).toEqual([0, 0, 0]);
    }));
  });

  test('leave the items’ own bytes alone', () => {
    const data = new Uint8Array([1, 2]);
    const { transfer } = stack([{ rows: 1, inputs: { x: { dtype: 'uint8', shape: [1, 2], data } } }]);
    expect(transfer).not.toContain(data.buffer);
  });

  test('refuse items that do not fit together', () => {
    const [one, other] = [1, 2].map((width): BatchItem => ({ rows: 1, inputs: { x: tensorOf('uint8', [1, width], new Uint8Array(width)) } }));
    expect(() => stack([one as BatchItem, other as BatchItem])).toThrow('do not fit together');
    expect(() => stack([])).toThrow('needs an item');
  });

  test('a scalar keeps its shape', () => {
    const { inputs } = stack([{ rows: 1, inputs: { x: tensorOf('float32', [], new Float32Array([2])) } }]);
    expect(inputs).toEqual([{ name: 'x', dtype: 'float32', shape: [], data: new Uint8Array(new Float32Array([2]).buffer) }]);
  });
});
