// The forms in which a person writes and reads tensors: nested arrays, or `{dtype, shape, data}` objects.
// Reading reports every fault with its place; nothing is rounded, filled up or guessed.
import type { OutputFormat } from './bundle.ts';
import type { Fault } from './errors.ts';
import { below } from './pointer.ts';
import { arrayTypes, bytesOf, elementBytes, elementCount, numbersOf, toBase64 } from './tensor.ts';
import type { Dtype, NumericDtype, NumericTensor, StringTensor, Tensor } from './tensor.ts';

declare global {
  interface JSON {
    /** In Node 24 (ECMAScript: JSON.parse source text access), not yet in TypeScript's libraries. */
    rawJSON(text: string): unknown;
  }
}

/** Past this many faults a prediction's list is cut: the rest are mostly the same mistake. */
export const maxFaults = 20;

/** Collects faults up to the limit. */
export class FaultList {
  readonly faults: Fault[] = [];

  add(pointer: string, detail: string): void {
    if (this.faults.length < maxFaults) this.faults.push({ pointer, detail });
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

const notFinite: Readonly<Record<string, number>> = { NaN, Infinity, '-Infinity': -Infinity };

/** JSON cannot hold NaN and the infinities as numbers; as strings they are taken, as in the proto3 JSON mapping. */
function acceptFloat(largest: number): (value: unknown) => number | undefined {
  return (value) => {
    if (typeof value === 'number' || typeof value === 'bigint') {
      const number = Number(value);
      return number <= largest && number >= -largest ? number : undefined;
    }
    return typeof value === 'string' && Object.hasOwn(notFinite, value) ? notFinite[value] : undefined;
  };
}

function acceptInteger(smallest: number, largest: number): (value: unknown) => number | undefined {
  return (value) => Number.isInteger(value) && (value as number) >= smallest && (value as number) <= largest ? value as number : undefined;
}

/** Integers beyond 2^53 arrive as bigint (the body's parser keeps their digits); a number beyond it has lost some, so it is refused. */
function acceptBigInteger(smallest: bigint, largest: bigint): (value: unknown) => bigint | undefined {
  return (value) => {
    if (!Number.isSafeInteger(value) && typeof value !== 'bigint') return undefined;
    const integer = BigInt(value as number | bigint);
    return integer >= smallest && integer <= largest ? integer : undefined;
  };
}

// The largest values that do not round to infinity: half a unit in the last place above the largest finite one.
const largestFloat32 = 3.4028235677973362e38;
const largestFloat16 = 65519.99;

const acceptors: Readonly<Record<Dtype, (value: unknown) => unknown>> = {
  float32: acceptFloat(largestFloat32),
  float64: acceptFloat(Number.MAX_VALUE),
  float16: acceptFloat(largestFloat16),
  int8: acceptInteger(-128, 127),
  int16: acceptInteger(-32_768, 32_767),
  int32: acceptInteger(-2_147_483_648, 2_147_483_647),
  int64: acceptBigInteger(-(2n ** 63n), 2n ** 63n - 1n),
  uint8: acceptInteger(0, 255),
  uint16: acceptInteger(0, 65_535),
  uint32: acceptInteger(0, 4_294_967_295),
  uint64: acceptBigInteger(0n, 2n ** 64n - 1n),
  bool: (value) => (typeof value === 'boolean' ? Number(value) : undefined),
  string: (value) => (typeof value === 'string' && value.isWellFormed() && !value.includes('\0') ? value : undefined),
};

const floatHint = 'as a number, or "NaN", "Infinity", "-Infinity" as a string';
const bigHint = 'as plain digits (no fraction, no exponent)';
const expectations: Readonly<Record<Dtype, string>> = {
  float32: `a float32 ${floatHint}`,
  float64: `a float64 ${floatHint}`,
  float16: `a float16 (at most 65504) ${floatHint}`,
  int8: 'an int8, -128 to 127',
  int16: 'an int16, -32768 to 32767',
  int32: 'an int32, -2147483648 to 2147483647',
  int64: `an int64, -2^63 to 2^63-1, ${bigHint}`,
  uint8: 'a uint8, 0 to 255',
  uint16: 'a uint16, 0 to 65535',
  uint32: 'a uint32, 0 to 4294967295',
  uint64: `a uint64, 0 to 2^64-1, ${bigHint}`,
  bool: 'true or false',
  string: 'a string of whole Unicode characters, none of them NUL (ONNX Runtime’s binding would cut it there)',
};

/** A short name of what was found, never its whole content. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'string') return value.length > 20 ? `a string of ${value.length} characters` : `the string ${JSON.stringify(value)}`;
  return String(value as number | bigint | boolean);
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
  return Array.from(numbersOf(tensor) as ArrayLike<number | bigint>, presenters[tensor.dtype]);
}

function presentFloat(value: number | bigint): unknown {
  return Number.isFinite(value) ? value : String(value);
}

function presentNumber(value: number | bigint): unknown {
  return value;
}

/** A number where that is exact, else the digits themselves as raw JSON. */
function presentBigInteger(value: number | bigint): unknown {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : JSON.rawJSON(String(value));
}

const presenters: Readonly<Record<NumericDtype, (value: number | bigint) => unknown>> = {
  float32: presentFloat, float64: presentFloat, float16: presentFloat,
  int8: presentNumber, int16: presentNumber, int32: presentNumber, int64: presentBigInteger,
  uint8: presentNumber, uint16: presentNumber, uint32: presentNumber, uint64: presentBigInteger,
  bool: (value) => value !== 0,
};

