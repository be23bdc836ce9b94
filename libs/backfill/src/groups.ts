// Rows that can be stacked: the same shape in every input.
import { bytesOf, type NumericArray, type Tensor, type Tensors } from '@millrace/protocol';
import type { InputValues } from './vectors.ts';

export interface RowGroup {
  /** Positions in the chunk, ascending; undefined where the group is the whole chunk. */
  readonly positions: readonly number[] | undefined;
  readonly rows: number;
  /** By input name; `[rows, …]`. */
  readonly tensors: Tensors;
}

/** All rows that are not `left out`, in as many groups as there are shapes. */
export function groupRows(inputs: readonly InputValues[], rows: number, leftOut: { has(position: number): boolean; readonly size: number }): readonly RowGroup[] {
  if (rows === leftOut.size) return [];
  if (leftOut.size === 0 && inputs.every(({ starts }) => starts === undefined)) {
    return [{ positions: undefined, rows, tensors: Object.fromEntries(inputs.map((values) => [values.input.plan.name, tensorOf(values, values.data, rows, values.width)])) }];
  }
  const groups = Map.groupBy(positionsOf(rows, leftOut), (position) => inputs.map((values) => lengthAt(values, position)).join());
  return [...groups.values()].map((positions) => ({
    positions: positions.length === rows ? undefined : positions,
    rows: positions.length,
    tensors: Object.fromEntries(inputs.map((values) => [values.input.plan.name, gather(values, positions)])),
  }));
}

function positionsOf(rows: number, leftOut: { has(position: number): boolean }): number[] {
  return Array.from({ length: rows }, (_, position) => position).filter((position) => !leftOut.has(position));
}

function lengthAt({ starts, width }: InputValues, position: number): number {
  return starts ? (starts[position + 1] as number) - (starts[position] as number) : width;
}

function gather(values: InputValues, positions: readonly number[]): Tensor {
  const { data, starts } = values;
  const width = lengthAt(values, positions[0] as number);
  const startOf = (position: number): number => (starts ? starts[position] as number : position * width);
  if (Array.isArray(data)) {
    return tensorOf(values, positions.flatMap((position) => (data as readonly string[]).slice(startOf(position), startOf(position) + width)), positions.length, width);
  }
  const numbers = data as NumericArray;
  const gathered = new (numbers.constructor as new (length: number) => NumericArray)(positions.length * width);
  for (const [row, position] of positions.entries()) gathered.set(numbers.subarray(startOf(position), startOf(position) + width) as never, row * width);
  return tensorOf(values, gathered, positions.length, width);
}

function tensorOf({ input: { plan: { dtype, rowShape } } }: InputValues, data: NumericArray | readonly string[], rows: number, width: number): Tensor {
  const fixed = rowShape.reduce((product, dim) => (dim === -1 ? product : product * dim), 1);
  const shape = [rows, ...rowShape.map((dim) => (dim === -1 ? width / fixed : dim))];
  return dtype === 'string'
    ? { dtype, shape, data: data as readonly string[] }
    : { dtype, shape, data: bytesOf(data as NumericArray) };
}
