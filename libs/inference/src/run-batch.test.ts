import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { numbersOf } from '@millrace/protocol';
import type { NumericTensor } from '@millrace/protocol';
import { runBatch } from './run-batch.ts';
import { sampleVersion, tensorOf } from './sample-version.ts';
import { openSession } from './session.ts';
import type { Session } from './session.ts';
import { split, stack } from './stack.ts';
import type { BatchItem } from './stack.ts';
import type { NamedTensor } from './thread-messages.ts';

const open = async (name: string): Promise<Session> => {
  const { path, id, batched } = await sampleVersion(name);
  return openSession({ path, digest: id.digest, threads: 1, executionProviders: ['cpu'], batched });
};

/** Counts the runs of a session. */
function counted(session: Session) {
  const counter = {
    batched: true,
    runs: 0,
    run: (inputs: readonly NamedTensor[]) => {
      counter.runs += 1;
      return session.run(inputs);
    },
  };
  return counter;
}

const item = (...values: number[]): BatchItem => (
  { rows: values.length, inputs: { x: tensorOf('float32', [values.length, 1], Float32Array.from(values)) } }
);

let squares: Session;
beforeAll(async () => { squares = await open('fails-on-negative'); });
afterAll(() => squares.release());

describe('runBatch', () => {
  test('one run where all goes well', async () => {
    const session = counted(squares);
    const { segments } = await runBatch(session, stack([item(1), item(2, 3)]));
    expect(session.runs).toBe(1);
    expect(segments).toMatchObject([{ ok: true, items: 2, rows: 3 }]);
  });

  test('finds any one culprit among 64 in at most 2·log2(64) more runs', async () => {
    for (let culprit = 0; culprit < 64; culprit += 1) {
      const items = Array.from({ length: 64 }, (_, index) => item(index === culprit ? -1 : index % 10));
      const session = counted(squares);
      const outcomes = split(items, await runBatch(session, stack(items)));
      expect(session.runs).toBeLessThanOrEqual(1 + 2 * Math.log2(64));
      expect(outcomes.flatMap(({ ok }, index) => (ok ? [] : [index]))).toEqual([culprit]);
      expect(session.batched).toBe(true);
    }
  });

  test('whoever is among them, culprits fail and mates get their own rows', async () => {
    const values = fc.array(fc.array(fc.integer({ min: -1, max: 10 }), { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 12 });
    await fc.assert(fc.asyncProperty(values, async (all) => {
      const items = all.map((numbers) => item(...numbers));
      const outcomes = split(items, await runBatch(counted(squares), stack(items)));
      const answers = outcomes.map((outcome) => (outcome.ok ? [...numbersOf(outcome.outputs['y'] as NumericTensor)] : 'failed'));
      expect(answers).toEqual(all.map((numbers) => (
        numbers.some((number) => number < 0 || number > 9) ? 'failed' : numbers.map((number) => number ** 2)
      )));
    }));
  });

  test('an item that fails says why, without paths', async () => {
    const { segments } = await runBatch(counted(squares), stack([item(-1)]));
    expect(segments).toMatchObject([{ ok: false, detail: expect.stringContaining('indices element out of data bounds') }]);
    expect(JSON.stringify(segments)).not.toMatch(/\.(cc|h):/);
  });

  test('a session whose items only fail together runs them one by one from then on', async () => {
    const fixed = await open('fixed-one');
    const session = counted(fixed);
    const items = [1, 2, 3].map((value): BatchItem => ({ rows: 1, inputs: { x: tensorOf('float32', [1, 4], new Float32Array(4).fill(value)) } }));
    const first = await runBatch(session, stack(items));
    expect(split(items, first).every(({ ok }) => ok)).toBe(true);
    expect(session.batched).toBe(false);
    expect(first.warnings).toHaveLength(1);
    session.runs = 0;
    expect((await runBatch(session, stack(items))).warnings).toEqual([]);
    expect(session.runs).toBe(3);
    await fixed.release();
  });

  test('a model that mixes up rows runs one by one from then on', async () => {
    const session = {
      batched: true,
      run: async (inputs: readonly NamedTensor[]): Promise<NamedTensor[]> => inputs.map(({ name }) => (
        { name, dtype: 'uint8', shape: [1], data: new Uint8Array(1) }
      )),
    };
    const { segments, warnings } = await runBatch(session, stack([item(1), item(2), item(3)]));
    expect(segments).toMatchObject([{ ok: true, items: 1 }, { ok: true, items: 1 }, { ok: true, items: 1 }]);
    expect(warnings).toMatchObject([{ detail: 'output "x" has shape [1] for 3 rows' }]);
    expect(session.batched).toBe(false);
  });
});
