// One model version loaded into ONNX Runtime. Only an inference thread opens sessions: `run` blocks its thread
// (https://github.com/microsoft/onnxruntime/issues/19611).
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { MillraceError, bytesOf, dtypes, numbersOf } from '@millrace/protocol';
import type { Dtype, NumericDtype } from '@millrace/protocol';
import { InferenceSession, Tensor as RuntimeTensor } from 'onnxruntime-node';
import { describeFailure } from './failure.ts';
import { usableProviders, withProviders } from './providers.ts';
import type { LoadRequest, NamedTensor, Warning } from './thread-messages.ts';
import { provesStacking } from './warm-up.ts';

export interface Session {
  /** Whether items are stacked; cleared by whoever sees that the model mixes up its rows. */
  batched: boolean;
  readonly providers: readonly string[];
  readonly warnings: readonly Warning[];
  /** Throws what the runtime throws. */
  run(inputs: readonly NamedTensor[]): Promise<readonly NamedTensor[]>;
  release(): Promise<void>;
}

type Wanted = Pick<LoadRequest, 'path' | 'digest' | 'threads' | 'executionProviders' | 'batched'>;

/** Loads and warms up a version. Throws MillraceError: `model-changed`, or `model-unavailable` with the runtime's reason. */
export async function openSession(wanted: Wanted): Promise<Session> {
  const bytes = await readVerified(wanted);
  const warnings: Warning[] = [];
  try {
    const { session, providers } = await withProviders(
      usableProviders(wanted.executionProviders, warnings),
      warnings,
      (providers) => InferenceSession.create(bytes, optionsOf(wanted.threads, providers)),
    );
    const strange = strangeValue(session);
    if (strange) {
      await session.release();
      throw new Error(strange);
    }
    const run = (inputs: readonly NamedTensor[]) => runSession(session, inputs);
    const batched = await provesStacking({ inputs: session.inputMetadata, run, batched: wanted.batched, warnings });
    return { batched, providers, warnings, run, release: () => session.release() };
  } catch (error) {
    throw new MillraceError('model-unavailable', `the model cannot be loaded: ${describeFailure(error)}`);
  }
}

/** The session is made from these very bytes, so that what was verified is what runs. */
async function readVerified({ path, digest }: Wanted): Promise<Uint8Array> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const reason = (error as NodeJS.ErrnoException).code ?? 'unknown error';
    throw new MillraceError('model-unavailable', `the model file cannot be read: ${reason}`);
  }
  if (createHash('sha256').update(bytes).digest('hex') !== digest) {
    throw new MillraceError('model-changed', 'the model file is not the one that the prediction was made for');
  }
  return bytes;
}

/** https://onnxruntime.ai/docs/api/js/interfaces/InferenceSession.SessionOptions.html */
function optionsOf(threads: number, providers: readonly string[]): InferenceSession.SessionOptions {
  return {
    executionProviders: [...providers],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    executionMode: 'sequential',
    graphOptimizationLevel: 'all',
    // A failed run reaches the prediction as its error; at 3 the runtime would also print each one on stderr.
    logSeverityLevel: 4,
    // Idle threads of the pool would spin, and burn the CPU that the rest of the process needs.
    extra: { session: { intra_op: { allow_spinning: '0' } } },
  };
}

function strangeValue({ inputMetadata, outputMetadata }: InferenceSession): string | undefined {
  const typeOf = (value: InferenceSession.ValueMetadata): string => (value.isTensor ? value.type : 'not a tensor');
  const strange = [...inputMetadata, ...outputMetadata].find((value) => !dtypes.includes(typeOf(value) as Dtype));
  return strange && `"${strange.name}" is ${typeOf(strange)}, which cannot be carried`;
}

async function runSession(session: InferenceSession, inputs: readonly NamedTensor[]): Promise<readonly NamedTensor[]> {
  const feeds = Object.create(null) as Record<string, RuntimeTensor>;
  for (const input of inputs) feeds[input.name] = feedOf(input);
  const results = await session.run(feeds);
  return session.outputNames.map((name) => resultOf(name, results[name] as RuntimeTensor));
}

function feedOf(input: NamedTensor): RuntimeTensor {
  const dims = [...input.shape];
  if (input.dtype === 'string') {
    // The binding passes C strings: the rest would be cut off in silence.
    if (input.data.some((text) => text.includes('\0'))) throw new Error(`input "${input.name}" holds a string with a NUL character`);
    return new RuntimeTensor('string', input.data, dims);
  }
  if (input.dtype === 'float16') return halvesOf(input.data, dims);
  return new RuntimeTensor(input.dtype, numbersOf(input) as Float32Array, dims);
}

/**
 * The binding reads a Float16Array as empty, and `Tensor` turns every other array into one, so it gets the parts of a
 * Tensor that it reads (https://github.com/microsoft/onnxruntime/pull/32323).
 */
function halvesOf(bytes: Uint8Array, dims: number[]): RuntimeTensor {
  const { buffer, byteOffset, byteLength } = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
  const data = new Uint16Array(buffer, byteOffset, byteLength / 2);
  return { type: 'float16', location: 'cpu', dims, data } as unknown as RuntimeTensor;
}

function resultOf(name: string, { type, dims, data }: RuntimeTensor): NamedTensor {
  if (type === 'string') return { name, dtype: type, shape: dims, data: data as string[] };
  return { name, dtype: type as NumericDtype, shape: dims, data: bytesOf(data as Float32Array) };
}
