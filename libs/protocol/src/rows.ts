// Tensors by rows: parts and sums along the first dimension.
import { mapTensors, type Tensor, type Tensors } from './tensor.ts';

/** The rows `from` up to `to`, as a view where the tensor is bytes. */
export function rowsOf({ dtype, shape, data }: Tensor, from: number, to: number): Tensor {
  const length = shape[0] ? data.length / shape[0] : 0;
  const rows = shape.with(0, to - from);
  return dtype === 'string'
    ? { dtype, shape: rows, data: data.slice(from * length, to * length) }
    : { dtype, shape: rows, data: data.subarray(from * length, to * length) };
}

/** Puts parts with the same names, dtypes and per-row shapes below each other. */
export function joinRows(parts: readonly Tensors[]): Tensors {
  const [first] = parts;
  if (!first) throw new Error('nothing to join');
  return mapTensors(first, (_tensor, name) => joinTensors(parts.map((part) => part[name] as Tensor)));
}

function joinTensors(parts: readonly Tensor[]): Tensor {
  const { dtype, shape } = parts[0] as Tensor;
  const joined = shape.with(0, parts.reduce((sum, part) => sum + (part.shape[0] as number), 0));
  return dtype === 'string'
    ? { dtype, shape: joined, data: parts.flatMap(({ data }) => data as readonly string[]) }
    : { dtype, shape: joined, data: Buffer.concat(parts.map(({ data }) => data as Uint8Array)) };
}
