import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { arrayTypes, dtypes, elementCount, numbersOf } from '@millrace/protocol';
import type { Dtype, NumericTensor } from '@millrace/protocol';
import { InferenceSession, Tensor as RuntimeTensor } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { sampleVersion, tensorOf } from './sample-version.ts';
import { openSession } from './session.ts';
import type { Session } from './session.ts';
import type { NamedTensor } from './thread-messages.ts';

let folder: string;
beforeAll(async () => { folder = await mkdtemp(join(tmpdir(), 'millrace-session-')); });
afterAll(() => rm(folder, { recursive: true }));

const wantedOf = async (name: string) => {
  const { path, id, batched } = await sampleVersion(name);
  return { path, digest: id.digest, threads: 1, executionProviders: ['cpu'], batched };
};

async function runOnce(name: string, inputs: readonly NamedTensor[]): Promise<Record<string, NamedTensor>> {
  const session = await openSession(await wantedOf(name));
  try {
    return Object.fromEntries((await session.run(inputs)).map((output) => [output.name, output]));
  } finally {
    await session.release();
  }
}

const arrays = { float32: Float32Array, float64: Float64Array, int64: BigInt64Array, uint8: Uint8Array, bool: Uint8Array } as const;

/** Inputs that every fixture takes: two rows where it has rows, three where a length is free. */
function feedsOf({ inputMetadata }: InferenceSession): RuntimeTensor[] {
  return inputMetadata.map((value) => {
    if (!value.isTensor) throw new Error('not a tensor');
    const dims = value.shape.map((dim, index) => (typeof dim === 'number' ? dim : index === 0 ? 2 : 3));
    const count = elementCount(dims);
    if (value.type === 'string') return new RuntimeTensor('string', Array.from({ length: count }, (_, at) => `é${at}`), dims);
    const numbers = Array.from({ length: count }, (_, at) => (value.type === 'bool' ? at % 2 : at % 10));
    const ArrayType = arrays[value.type as keyof typeof arrays];
    const data = ArrayType === BigInt64Array ? BigInt64Array.from(numbers, BigInt) : (ArrayType as typeof Float32Array).from(numbers);
    return new RuntimeTensor(value.type as 'float32', data as Float32Array, dims);
  });
}

describe('run', () => {
  const fixtures = [
    'two-in-two-out', 'int64-double', 'bool-not', 'float64-sum', 'string-concat', 'dynamic-width', 'no-batch', 'scalar', 'mixed',
    'uint8-image', 'fixed-one', 'fails-on-negative', 'crashes-on-thirteen', 'eats-memory', 'iris', 'digits', 'digits-deep',
  ];
  test.each(fixtures)('%s gives what the runtime gives', async (name) => {
    const { path } = await sampleVersion(name);
    const direct = await InferenceSession.create(path, { intraOpNumThreads: 1 });
    const feeds = feedsOf(direct);
    const named = feeds.map(({ type, dims, data }, index): NamedTensor => {
      const input = direct.inputNames[index] as string;
      return type === 'string'
        ? { name: input, dtype: type, shape: dims, data: data as string[] }
        : { name: input, ...tensorOf(type as 'float32', dims, data as Float32Array) };
    });
    const wanted = await direct.run(Object.fromEntries(direct.inputNames.map((input, index) => [input, feeds[index] as RuntimeTensor])));
    const outputs = await runOnce(name, named);
    expect(Object.keys(outputs)).toEqual(direct.outputNames);
    for (const [output, { type, dims, data }] of Object.entries(wanted)) {
      const got = outputs[output] as NamedTensor;
      expect([got.dtype, got.shape]).toEqual([type, dims]);
      expect(got.dtype === 'string' ? got.data : numbersOf(got)).toEqual(data);
    }
    await direct.release();
  });

  test('float16 goes in and comes out', async () => {
    const x = tensorOf('float16', [1, 4], new Float16Array([0.5, -1.25, 1024, 0.1]));
    const { y } = await runOnce('float16-scale', [{ name: 'x', ...x }]);
    expect(numbersOf(y as NumericTensor)).toEqual(new Float16Array([1, -2.5, 2048, 0.2]));
  });

  test.each(dtypes)('%s passes unharmed', async (dtype) => {
    const path = join(folder, `${dtype}.onnx`);
    const bytes = identityModel(dtype);
    await writeFile(path, bytes);
    const digest = createHash('sha256').update(bytes).digest('hex');
    const session = await openSession({ ...await wantedOf('iris'), path, digest });
    const x: NamedTensor = dtype === 'string'
      ? { name: 'x', dtype, shape: [3], data: ['', 'grüß', '😀'] }
      : { name: 'x', ...tensorOf(dtype, [3], new arrayTypes[dtype](new Uint8Array(24).map((_, at) => at % 2).buffer, 0, 3)) };
    expect(await session.run([x])).toEqual([{ ...x, name: 'y' }]);
    expect(session.batched).toBe(true);
    await session.release();
  });

  test('64-bit integers keep every bit', async () => {
    const big = new BigInt64Array([2n ** 63n - 1n, -(2n ** 63n)]);
    const { y } = await runOnce('int64-double', [{ name: 'x', ...tensorOf('int64', [1, 2], big) }]);
    expect(numbersOf(y as NumericTensor)).toEqual(big);
  });

  test('refuses strings that the runtime would cut off', async () => {
    const x: NamedTensor = { name: 'x', dtype: 'string', shape: [1, 2], data: ['a\0b', ''] };
    await expect(runOnce('string-concat', [x])).rejects.toThrow('NUL');
  });
});

describe('openSession', () => {
  let session: Session | undefined;

  test('proves by two rows that rows can be stacked', async () => {
    for (const [name, batched] of [['iris', true], ['dynamic-width', true], ['no-batch', false]] as const) {
      session = await openSession(await wantedOf(name));
      expect(session).toMatchObject({ batched, warnings: [] });
      await session.release();
    }
  });

  test('believes what it sees rather than a signature that says rows can be stacked', async () => {
    session = await openSession({ ...await wantedOf('fixed-one'), batched: true });
    expect(session.batched).toBe(false);
    expect(session.warnings).toMatchObject([{ message: expect.stringContaining('cannot be stacked') }]);
    await session.release();
  });

  test('falls back to the CPU where a provider is unknown or cannot be used', async () => {
    session = await openSession({ ...await wantedOf('iris'), executionProviders: ['abacus', 'tensorrt', 'cpu'] });
    expect(session.providers).toEqual(['cpu']);
    expect(session.warnings).toMatchObject([{ detail: 'abacus' }, { detail: expect.stringContaining('tensorrt: ') }]);
    await session.release();
  });

  test.each([[['cuda']], [['abacus']], [['abacus', 'tensorrt', 'cuda']]])('refuses %j where none of them works and the CPU is not asked for', async (executionProviders) => {
    const refused = openSession({ ...await wantedOf('iris'), executionProviders });
    await expect(refused).rejects.toMatchObject({ code: 'model-unavailable', message: expect.stringContaining('none of its execution providers works here, and the CPU is not among them') });
    for (const name of executionProviders) await expect(refused).rejects.toThrow(new RegExp(`execution provider (is not in this build of the runtime|cannot be used): ${name}`));
  });

  test('does not look past the CPU', async () => {
    session = await openSession({ ...await wantedOf('iris'), executionProviders: ['cpu', 'abacus'] });
    expect(session).toMatchObject({ providers: ['cpu'], warnings: [] });
    await session.release();
  });

  test('refuses a file that is not the one asked for', async () => {
    await expect(openSession({ ...await wantedOf('iris'), digest: '0'.repeat(64) })).rejects.toMatchObject({ code: 'model-changed' });
  });

  test('says why a file cannot be loaded, and not where it lies', async () => {
    const bytes = 'no model at all';
    const path = join(folder, 'model.onnx');
    await writeFile(path, bytes);
    const digest = createHash('sha256').update(bytes).digest('hex');
    const corrupt = openSession({ ...await wantedOf('iris'), path, digest });
    await expect(corrupt).rejects.toMatchObject({ code: 'model-unavailable', message: expect.stringContaining('protobuf parsing failed') });
    const missing = openSession({ ...await wantedOf('iris'), path: join(folder, 'nowhere.onnx') });
    await expect(missing).rejects.toMatchObject({ code: 'model-unavailable', message: 'the model file cannot be read: ENOENT' });
  });
});

/** `y = Identity(x)` over `[rows]`, in protobuf by hand (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto). */
function identityModel(dtype: Dtype): Uint8Array {
  const codes = { float32: 1, uint8: 2, int8: 3, uint16: 4, int16: 5, int32: 6, int64: 7, string: 8, bool: 9, float16: 10, float64: 11, uint32: 12, uint64: 13 };
  const number = (field: number, value: number): number[] => [field << 3, value];
  const message = (field: number, ...parts: number[][]): number[] => [(field << 3) | 2, parts.flat().length, ...parts.flat()];
  const text = (field: number, value: string): number[] => message(field, [...Buffer.from(value)]);
  const value = (field: number, name: string): number[] => (
    message(field, text(1, name), message(2, message(1, number(1, codes[dtype]), message(2, message(1, text(2, 'rows'))))))
  );
  const node = message(1, text(1, 'x'), text(2, 'y'), text(4, 'Identity'));
  const graph = message(7, node, text(2, 'g'), value(11, 'x'), value(12, 'y'));
  return Uint8Array.from([...number(1, 8), ...graph, ...message(8, number(2, 18))]);
}
