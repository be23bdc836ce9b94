// The direct computation: `session.run` in this process, one prediction at a time.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { arrayTypes, bytesOf, elementCount, type NumericArray, type NumericDtype, type Signature, type Tensor as WireTensor, toPlain } from '@millrace/protocol';
import { InferenceSession, Tensor } from 'onnxruntime-node';

const sessions = new Map<string, Promise<InferenceSession>>();

/** Runs a model of the folder on inputs in plain nested form; outputs in the same form. */
export async function runDirect(models: string, name: string, signature: Signature, inputs: Readonly<Record<string, unknown>>): Promise<Record<string, unknown>> {
  let session = sessions.get(name);
  if (!session) sessions.set(name, session = readFile(path.join(models, name, '1', 'model.onnx')).then((bytes) => InferenceSession.create(bytes, { intraOpNumThreads: 1 })));
  const feeds = Object.fromEntries(signature.inputs.map(({ name: input, dtype }) => [input, tensorOf(dtype, inputs[input])]));
  const results = await (await session).run(feeds);
  return Object.fromEntries(Object.entries(results).map(([output, tensor]) => [output, toPlain(plainTensor(tensor), 'nested')]));
}

function tensorOf(dtype: string, nested: unknown): Tensor {
  const shape: number[] = [];
  for (let level = nested; Array.isArray(level); level = level[0]) shape.push(level.length);
  const flat = Array.isArray(nested) ? nested.flat(Infinity) as unknown[] : [nested];
  if (dtype === 'string') return new Tensor('string', flat as string[], shape);
  const numbers = new arrayTypes[dtype as NumericDtype](elementCount(shape));
  for (const [index, value] of flat.entries()) (numbers as unknown as unknown[])[index] = numbers instanceof BigInt64Array ? BigInt(value as number) : Number(value);
  if (dtype !== 'float16') return new Tensor(dtype as 'float32', numbers as Float32Array, shape);
  // onnxruntime-node 1.30 reads a Float16Array as empty; it takes the same bits as a Uint16Array, past its constructor.
  const bits = new Uint16Array(numbers.buffer);
  const tensor = new Tensor('float16', bits, shape);
  Object.defineProperty(tensor, 'cpuData', { value: bits });
  return tensor;
}

function plainTensor(tensor: Tensor): WireTensor {
  const { type, dims, data } = tensor;
  if (type === 'string') return { dtype: 'string', shape: dims, data: data as string[] };
  return { dtype: type as NumericDtype, shape: dims, data: bytesOf(data as NumericArray) };
}

/** Largest difference between two plain tensors; infinite where shapes, exact values or texts differ. */
export function difference(a: unknown, b: unknown): number {
  if (Array.isArray(a) && Array.isArray(b)) {
    if (a.length !== b.length) return Infinity;
    return a.reduce((largest: number, value, index) => Math.max(largest, difference(value, b[index])), 0);
  }
  if (typeof a === 'number' && typeof b === 'number') return Number.isInteger(a) && a === b ? 0 : Math.abs(a - b) / Math.max(1, Math.abs(b));
  return String(a) === String(b) ? 0 : Infinity;
}
