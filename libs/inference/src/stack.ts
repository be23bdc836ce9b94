// Rows of many predictions ↔ the tensors of one micro-batch.
import { MillraceError, elementBytes, elementCount, rowsOf } from '@millrace/protocol';
import type { Tensor, Tensors } from '@millrace/protocol';
import type { NamedTensor, RunReply, Segment } from './thread-messages.ts';

/** One prediction of a micro-batch. */
export interface BatchItem {
  /** `[rows, …]` each, where the model has a batch dimension. */
  readonly inputs: Tensors;
  readonly rows: number;
}

export type ItemOutcome =
  | {
    readonly ok: true;
    /** Views into the micro-batch's outputs, `[rows, …]` each. */
    readonly outputs: Tensors;
    /** Of the `session.run` that gave the outputs. */
    readonly inferenceMs: number;
    /** Rows of that run. */
    readonly batchRows: number;
    /** Its share of the time that the micro-batch kept a thread from others, what brings it there and back included. */
    readonly busyMs: number;
  }
  | { readonly ok: false; readonly error: MillraceError };

export interface StackedBatch {
  readonly rows: readonly number[];
  readonly inputs: readonly NamedTensor[];
  readonly transfer: readonly ArrayBuffer[];
}

/** Wide enough for every element type, so that each input can be viewed in place. */
const alignment = 8;

/**
 * Stacks items along the first dimension. All must have the same inputs and per-row shapes; one alone keeps its shape.
 * Also one alone is copied, once: its bytes stay the caller's, and a view sent as it is would be cloned with all of its buffer.
 */
export function stack(items: readonly BatchItem[]): StackedBatch {
  const [first] = items;
  if (!first) throw new Error('a micro-batch needs an item');
  const names = Object.keys(first.inputs);
  const buffer = new ArrayBuffer(names.reduce((sum, name) => sum + stackedBytes(items, name), 0));
  let offset = 0;
  const inputs = names.map((name) => {
    const input = stackOne(items, name, new Uint8Array(buffer, offset));
    offset += stackedBytes(items, name);
    return input;
  });
  return { rows: items.map(({ rows }) => rows), inputs, transfer: buffer.byteLength > 0 ? [buffer] : [] };
}

function stackedBytes(items: readonly BatchItem[], name: string): number {
  let sum = 0;
  for (const { inputs } of items) {
    const tensor = inputs[name] as Tensor;
    if (tensor.dtype !== 'string') sum += tensor.data.byteLength;
  }
  return Math.ceil(sum / alignment) * alignment;
}

function stackOne(items: readonly BatchItem[], name: string, room: Uint8Array): NamedTensor {
  const [first] = items as readonly [BatchItem];
  const { dtype, shape: firstShape } = first.inputs[name] as Tensor;
  const shape = items.length === 1 ? firstShape : firstShape.with(0, items.reduce((sum, { rows }) => sum + rows, 0));
  if (dtype === 'string') {
    const data = items.flatMap(({ inputs }) => (inputs[name] as Tensor).data as readonly string[]);
    return { name, dtype, shape, data: whole(data, data.length, elementCount(shape)) };
  }
  let end = 0;
  for (const { inputs } of items) {
    const bytes = (inputs[name] as Tensor).data as Uint8Array;
    room.set(bytes, end);
    end += bytes.byteLength;
  }
  return { name, dtype, shape, data: whole(room.subarray(0, end), end, elementCount(shape) * elementBytes(dtype)) };
}

function whole<Data>(data: Data, length: number, expected: number): Data {
  if (length !== expected) throw new Error(`stacked items do not fit together: ${length} elements or bytes in place of ${expected}`);
  return data;
}

/** The rows `from` up to `to` of tensors, as views. */
export function sliceRows(tensors: readonly NamedTensor[], from: number, to: number): NamedTensor[] {
  return tensors.map((tensor) => ({ name: tensor.name, ...rowsOf(tensor, from, to) }));
}

/** Gives each item its rows back. `busyMs`: of the whole micro-batch. */
export function split(items: readonly BatchItem[], { segments }: RunReply, busyMs = 0): ItemOutcome[] {
  const outcomes: ItemOutcome[] = [];
  const busyMsPerRow = busyMs / items.reduce((sum, { rows }) => sum + rows, 0);
  for (const segment of segments) {
    const members = items.slice(outcomes.length, outcomes.length + segment.items);
    outcomes.push(...splitSegment(members, segment, busyMsPerRow));
  }
  return outcomes;
}

function splitSegment(items: readonly BatchItem[], segment: Segment, busyMsPerRow: number): ItemOutcome[] {
  if (!segment.ok) return [{ ok: false, error: new MillraceError(segment.code, segment.detail) }];
  const { inferenceMs, rows: batchRows } = segment;
  const outputs = segment.outputs.map(({ name, ...tensor }) => ({ name, tensor }));
  let from = 0;
  return items.map(({ rows }): ItemOutcome => {
    const own: Record<string, Tensor> = {};
    for (const { name, tensor } of outputs) {
      own[name] = items.length === 1 ? tensor : rowsOf(tensor, from, from + rows);
    }
    from += rows;
    return { ok: true, outputs: own, inferenceMs, batchRows, busyMs: rows * busyMsPerRow };
  });
}
