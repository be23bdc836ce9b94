// The forms in which a person writes and reads tensors: nested arrays, or `{dtype, shape, data}` objects.
// Reading reports every fault with its place; nothing is rounded, filled up or guessed.
import type { OutputFormat } from './bundle.ts';
import { acceptors, describe, expectations, presenters } from './elements.ts';
import type { Fault } from './errors.ts';
import { below } from './pointer.ts';
import { arrayTypes, bytesOf, elementBytes, elementCount, numbersOf, toBase64 } from './tensor.ts';
import type { Dtype, NumericTensor, StringTensor, Tensor } from './tensor.ts';

/** Past this many faults a prediction's list is cut: the rest are mostly the same mistake. */
export const maxFaults = 20;

/** Collects faults up to the limit. */
export class FaultList {
  readonly faults: Fault[] = [];

  /** What was said before is not said again. */
  add(pointer: string, detail: string): void {
    const known = this.faults.some((fault) => fault.pointer === pointer && fault.detail === detail);
    if (!known && !this.full) this.faults.push({ pointer, detail });
  }

  get full(): boolean {
    return this.faults.length >= maxFaults;
  }
}

/** A tensor object as it comes in: exactly these members. */
export interface TensorObject {
  readonly dtype: unknown;
  readonly shape: unknown;
  readonly data: unknown;
}

export function isTensorObject(value: unknown): value is TensorObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    && 'dtype' in value && 'shape' in value && 'data' in value && Object.keys(value).length === 3;
}

/** The shape that nested arrays have along their first elements, at most one level deeper than `rank`. */
export function shapeOfNested(value: unknown, rank: number): number[] {
  const shape: number[] = [];
  let level = value;
  while (Array.isArray(level) && shape.length <= rank) {
    shape.push(level.length);
    level = level[0];
  }
  return shape;
}

/** Reads nested arrays of exactly this shape; what does not fit becomes a fault at its own pointer. */
export function readNested(value: unknown, dtype: Dtype, shape: readonly number[], pointer: string, faults: FaultList): Tensor | undefined {
  // The shape was read along the first elements: only where all the others agree is it as large as the body.
  const filler = new Filler(dtype, shape, faults, hasShape(value, shape, 0));
  filler.fillNested(value, 0, pointer);
  return filler.tensor;
}

function hasShape(value: unknown, shape: readonly number[], depth: number): boolean {
  if (depth === shape.length) return true;
  if (!Array.isArray(value) || value.length !== shape[depth]) return false;
  return depth === shape.length - 1 || value.every((inner) => hasShape(inner, shape, depth + 1));
}

/** Reads the `data` member of a tensor object: flat values, or base64 of little-endian bytes. */
export function readFlat(data: unknown, dtype: Dtype, shape: readonly number[], pointer: string, faults: FaultList): Tensor | undefined {
  if (typeof data === 'string') return readBase64(data, dtype, shape, pointer, faults);
  if (!Array.isArray(data)) {
    faults.add(pointer, `expected an array of values or a base64 string, got ${describe(data)}`);
    return undefined;
  }
  const count = elementCount(shape);
  if (data.length !== count) {
    faults.add(pointer, `expected ${count} values for shape [${shape.join(', ')}], got ${data.length}`);
    return undefined;
  }
  const filler = new Filler(dtype, shape, faults, true);
  filler.fillFlat(data, pointer);
  return filler.tensor;
}

function readBase64(text: string, dtype: Dtype, shape: readonly number[], pointer: string, faults: FaultList): Tensor | undefined {
  if (dtype === 'string') {
    faults.add(pointer, 'strings have no base64 form: expected an array of strings');
    return undefined;
  }
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    faults.add(pointer, 'expected base64 (RFC 4648 §4, padded) of little-endian bytes');
    return undefined;
  }
  const data = Buffer.from(text, 'base64');
  const expectedBytes = elementCount(shape) * elementBytes(dtype);
  if (data.byteLength !== expectedBytes) {
    faults.add(pointer, `expected ${expectedBytes} bytes for ${dtype} of shape [${shape.join(', ')}], got ${data.byteLength}`);
    return undefined;
  }
  if (dtype === 'bool' && data.some((byte) => byte > 1)) {
    faults.add(pointer, 'expected one byte a bool, 0 or 1');
    return undefined;
  }
  return { dtype, shape, data };
}

/** Checks elements one by one and, where `store`, fills a tensor with them. */
class Filler {
  readonly tensor: Tensor | undefined;
  readonly #shape: readonly number[];
  readonly #faults: FaultList;
  readonly #dtype: Dtype;
  readonly #values: { [index: number]: unknown } | undefined;
  readonly #accept: (value: unknown) => unknown;
  #next = 0;

  constructor(dtype: Dtype, shape: readonly number[], faults: FaultList, store: boolean) {
    this.#dtype = dtype;
    this.#shape = shape;
    this.#faults = faults;
    this.#accept = acceptors[dtype];
    if (!store) return;
    if (dtype === 'string') {
      const strings: string[] = [];
      this.#values = strings;
      this.tensor = { dtype, shape, data: strings };
    } else {
      const numbers = new arrayTypes[dtype](elementCount(shape));
      this.#values = numbers;
      this.tensor = { dtype, shape, data: bytesOf(numbers) };
    }
  }

  fillNested(value: unknown, depth: number, pointer: string): void {
    if (depth === this.#shape.length) return this.#put(value, pointer, undefined);
    const length = this.#shape[depth] as number;
    if (!Array.isArray(value) || value.length !== length) {
      this.#faults.add(pointer, `expected an array of ${length}, got ${describe(value)}`);
      return;
    }
    if (depth === this.#shape.length - 1) return this.fillFlat(value, pointer);
    for (let index = 0; index < length && !this.#faults.full; index++) {
      this.fillNested(value[index], depth + 1, below(pointer, index));
    }
  }

  fillFlat(values: readonly unknown[], pointer: string): void {
    for (let index = 0; index < values.length && !this.#faults.full; index++) this.#put(values[index], pointer, index);
  }

  /** The pointer to the element is only made when it is needed: there may be millions of them. */
  #put(value: unknown, pointer: string, index: number | undefined): void {
    const accepted = this.#accept(value);
    if (accepted === undefined) {
      this.#faults.add(index === undefined ? pointer : below(pointer, index), `expected ${expectations[this.#dtype]}, got ${describe(value)}`);
      return;
    }
    if (this.#values) this.#values[this.#next++] = accepted;
  }
}

/** The tensor in the form that the caller asked for, ready for JSON. */
export function toPlain(tensor: Tensor, format: OutputFormat): unknown {
  if (format === 'nested') return nest(elementsOf(tensor), tensor.shape, 0, 0, elementCount(tensor.shape));
  const { dtype, shape, data } = tensor;
  const plain = format === 'base64' && data instanceof Uint8Array ? toBase64(data) : [...elementsOf(tensor)];
  return { dtype, shape, data: plain };
}

function nest(elements: readonly unknown[], shape: readonly number[], depth: number, offset: number, count: number): unknown {
  if (depth === shape.length) return elements[offset];
  if (depth === shape.length - 1) return count === elements.length ? elements : elements.slice(offset, offset + count);
  const length = shape[depth] as number;
  const stride = length === 0 ? 0 : count / length;
  return Array.from({ length }, (_, index) => nest(elements, shape, depth + 1, offset + index * stride, stride));
}

/** The elements as JSON can hold them exactly. */
function elementsOf(tensor: NumericTensor | StringTensor): readonly unknown[] {
  if (tensor.dtype === 'string') return tensor.data;
  const numbers = numbersOf(tensor);
  const present = presenters[tensor.dtype];
  // A loop: Array.from takes twice the time on the few elements of most outputs.
  const elements: unknown[] = [];
  for (let index = 0; index < numbers.length; index++) elements.push(present(numbers[index] as number | bigint));
  return elements;
}
