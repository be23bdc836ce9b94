import type { ModelVersion } from '@millrace/models';
import { numbersOf } from '@millrace/protocol';
import type { NumericTensor } from '@millrace/protocol';
import { afterEach, describe, expect, test } from 'vitest';
import { InferenceEngine } from './engine.ts';
import type { EngineOptions } from './engine.ts';
import { labelsOf } from './labels.ts';
import { expectedOf, sampleVersion, tensorOf } from './sample-version.ts';
import type { BatchItem } from './stack.ts';

let engine: InferenceEngine;
afterEach(() => engine.stop());

async function started(options: Partial<EngineOptions> = {}): Promise<InferenceEngine> {
  engine = new InferenceEngine({ threads: 1, sessionMemoryBytes: 2 ** 30, ...options });
  await engine.start();
  return engine;
}

const floats = (name: string, ...rows: number[][]): BatchItem => (
  { rows: rows.length, inputs: { [name]: tensorOf('float32', [rows.length, rows[0]?.length ?? 0], Float32Array.from(rows.flat())) } }
);
const flower = floats('features', [5.1, 3.5, 1.4, 0.2]);

describe('run', () => {
  test.each(['iris', 'digits', 'digits-deep'])('%s predicts what its framework predicts, in micro-batches of mixed sizes', async (name) => {
    const version = await sampleVersion(name);
    const { rows, outputs } = await expectedOf(name);
    const input = version.signature.inputs[0]?.name as string;
    await started();
    for (let from = 0, size = 1; from < rows.length; from += size, size = (size * 2) % 61) {
      const items = cut(rows.slice(from, from + size)).map((part) => floats(input, ...part));
      const outcomes = await engine.run(version, items);
      for (const [output, wanted] of Object.entries(outputs)) {
        const got = outcomes.flatMap((outcome) => (outcome.ok ? [...numbersOf(outcome.outputs[output] as NumericTensor)].map(Number) : []));
        const near = wanted.slice(from, from + size).flat();
        expect(got).toHaveLength(near.length);
        expect(Math.max(...got.map((value, index) => Math.abs(value - (near[index] as number))))).toBeLessThan(1e-5);
      }
    }
  });

  test('a culprit fails, and its mates get their answers', async () => {
    await started();
    const items = Array.from({ length: 64 }, (_, index) => floats('x', [index === 40 ? -1 : index % 10]));
    const outcomes = await engine.run(await sampleVersion('fails-on-negative'), items);
    const answers = outcomes.map((outcome) => (outcome.ok ? numbersOf(outcome.outputs['y'] as NumericTensor)[0] : outcome.error.code));
    expect(answers).toEqual(items.map((_, index) => (index === 40 ? 'model-failed' : (index % 10) ** 2)));
  });

  test('a model that is not batched gets its predictions one by one', async () => {
    await started();
    const items = [1, 2, 3].map((value) => floats('x', [value, value, value, value]));
    const outcomes = await engine.run(await sampleVersion('fixed-one'), items);
    expect(outcomes).toMatchObject(items.map(() => ({ ok: true, batchRows: 1, outputs: { y: { shape: [1, 4] } } })));
    expect(await engine.run(await sampleVersion('fixed-one'), [])).toEqual([]);
  });

  test('what micro-batches cost adds up to the time that they had the thread, by rows; loading costs nothing', async () => {
    let loadMs = 0;
    await started({ onLoad: (event) => { loadMs += event.loadMs; } });
    const version = await sampleVersion('digits-deep');
    const digits = (rows: number) => floats('image', ...Array.from({ length: rows }, () => Array.from({ length: 64 }, () => 1)));
    const startedAt = performance.now();
    const runs = await Promise.all([[digits(1), digits(3)], [digits(20)], [digits(32)]].map((items) => engine.run(version, items)));
    const elapsedMs = performance.now() - startedAt;
    const ran = runs.map((outcomes) => outcomes.flatMap((outcome) => (outcome.ok ? [outcome] : [])));
    const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
    const busyMs = sum(ran.flat().map((outcome) => outcome.busyMs));
    expect(ran.map(({ length }) => length)).toEqual([2, 1, 1]);
    expect(busyMs).toBeGreaterThanOrEqual(sum(ran.map(([first]) => first?.inferenceMs ?? 0)));
    expect(busyMs).toBeLessThanOrEqual(elapsedMs - loadMs);
    const [small, large] = ran[0]?.map((outcome) => outcome.busyMs) ?? [];
    expect(large).toBeCloseTo(3 * (small ?? 0));
  });

  test('strings, and inputs of several types, find their places', async () => {
    await started();
    const words = [['a', ''], ['grüß', '日本']].map((data): BatchItem => ({ rows: 1, inputs: { x: { dtype: 'string', shape: [1, 2], data } } }));
    expect(await engine.run(await sampleVersion('string-concat'), words)).toMatchObject([
      { outputs: { y: { shape: [1, 2], data: ['a!', '!'] } } }, { outputs: { y: { data: ['grüß!', '日本!'] } } },
    ]);
    const mixed = [[2n, 1, 0.5], [3n, 0, 2], [4n, 1, 1]].map(([id, flag, weight]): BatchItem => ({
      rows: 1,
      inputs: {
        flag: tensorOf('bool', [1], new Uint8Array([Number(flag)])),
        ids: tensorOf('int64', [1], new BigInt64Array([id as bigint])),
        weight: tensorOf('float32', [1, 2], new Float32Array([Number(weight), 1])),
      },
    }));
    const outcomes = await engine.run(await sampleVersion('mixed'), mixed);
    const scores = outcomes.map((outcome) => outcome.ok && [...numbersOf(outcome.outputs['score'] as NumericTensor)]);
    expect(scores).toEqual([[1, 2], [0, 0], [4, 4]]);
  });

  test('gives labels', async () => {
    await started();
    const [outcome] = await engine.run(await sampleVersion('iris'), [floats('features', [5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6, 2.5])]);
    expect(outcome?.ok && labelsOf(outcome.outputs, ['setosa', 'versicolor', 'virginica'], 2)).toEqual(['setosa', 'virginica']);
  });

  test('leaves its inputs as they were, so that they can be run again', async () => {
    await started();
    const version = await sampleVersion('iris');
    const [first, again] = [await engine.run(version, [flower]), await engine.run(version, [flower])];
    expect(first).toMatchObject([{ ok: true }]);
    expect(again[0]?.ok && again[0].outputs).toEqual(first[0]?.ok && first[0].outputs);
  });
});

describe('loading', () => {
  test('says what it loaded, once for all who wait', async () => {
    const loads: unknown[] = [];
    await started({ onLoad: (event) => loads.push(event) });
    const version = await sampleVersion('iris');
    await Promise.all([engine.run(version, [flower]), engine.run(version, [flower]), engine.preload(version)]);
    expect(loads).toMatchObject([{ version, thread: 0, providers: ['cpu'], batched: true, loadMs: expect.any(Number) }]);
    expect(engine).toMatchObject({ sessions: 1, sessionBytes: version.sizeBytes });
  });

  test('another file than the one asked for is model-changed', async () => {
    await started();
    const version = await sampleVersion('iris', { id: { name: 'iris', version: 1, digest: 'f'.repeat(64) } });
    expect(await engine.run(version, [flower, flower])).toMatchObject([0, 1].map(() => ({ ok: false, error: { code: 'model-changed' } })));
  });

  test('a version that cannot be loaded fails its batch, and the next batch tries again', async () => {
    await started();
    const good = await sampleVersion('iris');
    const bad: ModelVersion = { ...good, path: `${good.path}.gone` };
    expect(await engine.run(bad, [flower])).toMatchObject([{ ok: false, error: { code: 'model-unavailable' } }]);
    expect(engine.sessionBytes).toBe(0);
    expect(await engine.run(good, [flower])).toMatchObject([{ ok: true }]);
    await expect(engine.preload({ ...bad, id: { ...bad.id, version: 2 } })).rejects.toMatchObject({ code: 'model-unavailable' });
  });

  test('sessions over all threads keep to the bound', async () => {
    const names = ['iris', 'digits', 'fails-on-negative'] as const;
    const [iris, digits, picky] = await Promise.all(names.map((name) => sampleVersion(name))) as [ModelVersion, ModelVersion, ModelVersion];
    const released: string[] = [];
    const sessionMemoryBytes = digits.sizeBytes + iris.sizeBytes;
    await started({ threads: 2, sessionMemoryBytes, onRelease: ({ version }) => released.push(version.id.name) });
    const pixels = floats('image', Array.from({ length: 64 }, () => 0));
    const work = [[digits, pixels], [iris, flower], [picky, floats('x', [3])], [digits, pixels], [iris, flower]] as const;
    for (const [version, item] of work) {
      expect(await engine.run(version, [item])).toMatchObject([{ ok: true }]);
      expect(engine.sessionBytes).toBeLessThanOrEqual(sessionMemoryBytes);
    }
    expect(released[0]).toBe('digits');
    const crowd = work.map(([version, item]) => engine.run(version, [item]));
    expect((await Promise.all(crowd)).flat().every(({ ok }) => ok)).toBe(true);
  });

  test('a version larger than the bound is model-unavailable', async () => {
    await started({ sessionMemoryBytes: 100 });
    expect(await engine.run(await sampleVersion('iris'), [flower])).toMatchObject([{ ok: false, error: { code: 'model-unavailable' } }]);
  });

  test('frees a version that vanished', async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    await started({ onRelease: resolve });
    const version = await sampleVersion('iris');
    await engine.preload(version);
    engine.release(version);
    expect(await promise).toEqual({ version, thread: 0 });
    expect(engine.sessions).toBe(0);
  });

  test('preloads as many instances as the manifest wants, which are all where it says nothing', async () => {
    await started({ threads: 2 });
    await engine.preload(await sampleVersion('iris', { manifest: { instances: 1 } }));
    expect(engine.sessions).toBe(1);
    await engine.preload(await sampleVersion('digits'));
    expect(engine.sessions).toBe(3);
  });
});

describe('canTake', () => {
  test('one runs, one waits prepared if it is full, no more', async () => {
    await started();
    const version = await sampleVersion('iris');
    expect([engine.canTake(version, false), engine.busy]).toEqual([true, 0]);
    const first = engine.run(version, [flower]);
    expect([engine.canTake(version, false), engine.canTake(version, true), engine.busy]).toEqual([false, true, 1]);
    const second = engine.run(version, [flower]);
    expect(engine.canTake(version, true)).toBe(false);
    await first;
    expect(engine.canTake(version, true)).toBe(true);
    await second;
    expect(engine.canTake(version, false)).toBe(true);
  });

  test('a version keeps to its instances', async () => {
    await started({ threads: 2 });
    const [alone, twice] = [await sampleVersion('iris', { manifest: { instances: 1 } }), await sampleVersion('digits', { manifest: { instances: 2 } })];
    const running = [engine.run(alone, [flower])];
    expect([engine.canTake(alone, false), engine.canTake(alone, true), engine.canTake(twice, false)]).toEqual([false, true, true]);
    running.push(engine.run(twice, [floats('image', Array.from({ length: 64 }, () => 0))]));
    expect([engine.canTake(twice, false), engine.canTake(twice, true), engine.busy]).toEqual([false, true, 2]);
    await Promise.all(running);
  });

  test('nothing is taken while a load waits for memory, and it is told when that is over', async () => {
    const [iris, picky] = [await sampleVersion('iris'), await sampleVersion('fails-on-negative')];
    const { promise: capacity, resolve } = Promise.withResolvers<void>();
    const sessionMemoryBytes = Math.max(iris.sizeBytes, picky.sizeBytes);
    await started({ threads: 2, sessionMemoryBytes, onCapacity: resolve });
    const running = [engine.run(iris, [flower]), engine.run(picky, [floats('x', [3])])];
    expect([engine.canTake(iris, true), engine.canTake(picky, true)]).toEqual([false, false]);
    await capacity;
    expect((await Promise.all(running)).flat().every(({ ok }) => ok)).toBe(true);
    expect(engine.canTake(iris, false)).toBe(true);
  });

  test('before the start and after the stop nothing is taken', async () => {
    engine = new InferenceEngine({ threads: 1, sessionMemoryBytes: 1000 });
    const version = await sampleVersion('iris');
    expect(engine.canTake(version, true)).toBe(false);
    await expect(engine.run(version, [flower])).rejects.toThrow('not started');
    await engine.start();
    await engine.stop();
    expect(engine.canTake(version, true)).toBe(false);
    await expect(engine.run(version, [flower])).rejects.toThrow('stopped');
  });
});

describe('stop', () => {
  test('lets everything that was taken finish, as often as it is called', async () => {
    await started({ threads: 2 });
    const version = await sampleVersion('iris', { manifest: { instances: 2 } });
    const running = Array.from({ length: 4 }, () => engine.run(version, [flower, flower]));
    await Promise.all([engine.stop(), engine.stop()]);
    expect(engine.busy).toBe(0);
    expect((await Promise.all(running)).flat().every(({ ok }) => ok)).toBe(true);
    await engine.stop();
  });
});

test('split pieces cover all', () => {
  expect(cut([[1], [2], [3], [4], [5], [6]])).toEqual([[[1]], [[2], [3]], [[4], [5], [6]]]);
});

/** Rows as predictions of 1, 2, 3, … rows. */
function cut(rows: readonly number[][]): number[][][] {
  const pieces: number[][][] = [];
  for (let from = 0; from < rows.length; from += pieces.length) pieces.push(rows.slice(from, from + pieces.length + 1));
  return pieces;
}
