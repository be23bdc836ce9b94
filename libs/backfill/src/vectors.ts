// Numbers between DuckDB's vectors and tensors, as blocks of memory: no value becomes an object on the way.
// Vectors: https://duckdb.org/docs/stable/clients/c/vector
import { DuckDBVarCharVector } from '@duckdb/node-api';
import duckdb, { type Vector } from '@duckdb/node-bindings';
import { acceptors, arrayTypes, type NumericArray, type NumericDtype } from '@millrace/protocol';
import { widthOf } from './plan.ts';
import type { SelectedInput } from './read-sql.ts';

/** An input's values, row after row. */
export interface InputValues {
  readonly input: SelectedInput;
  readonly data: NumericArray | readonly string[];
  /** Where each row's values begin, and behind the last where they end; undefined where all rows have `width`. */
  readonly starts: readonly number[] | undefined;
  readonly width: number;
  /** Rows that do not fit, each with the first element that does not; -1 where there is none at all. */
  readonly bad: ReadonlyMap<number, number>;
}

/** Takes vectors of up to 2048 rows one after another. */
export class InputBuffer {
  readonly #input: SelectedInput;
  readonly #width: number | undefined;
  readonly #depth: number;
  readonly #bad = new Map<number, number>();
  readonly #starts: number[] = [0];
  readonly #strings: string[] = [];
  #numbers: NumericArray | undefined;
  #rows = 0;

  /** `rows` is how many will come, where that is known. */
  constructor(input: SelectedInput, rows: number) {
    this.#input = input;
    const { dtype, rowShape, from, depth, inBatch } = input.plan;
    this.#width = from === 'columns' ? input.plan.columns.length : widthOf(rowShape);
    this.#depth = this.#width === undefined || from === 'columns' ? 1 : depth - Number(inBatch);
    if (dtype !== 'string') this.#numbers = new arrayTypes[dtype](rows * (this.#width ?? 16));
  }

  append(vector: Vector, rows: number): void {
    if (this.#width === undefined) this.#appendLists(vector, rows);
    else this.#appendArrays(vector, rows, this.#width);
    this.#rows += rows;
  }

  finish(): InputValues {
    const count = this.#width === undefined ? this.#starts.at(-1) as number : this.#rows * this.#width;
    return {
      input: this.#input,
      data: this.#numbers ? this.#numbers.subarray(0, count) : this.#strings,
      starts: this.#width === undefined ? this.#starts : undefined,
      width: this.#width ?? 0,
      bad: this.#bad,
    };
  }

  #appendArrays(vector: Vector, rows: number, width: number): void {
    const { plan: { rowShape } } = this.#input;
    let leaf = vector;
    let each = 1;
    for (let level = 0; level < this.#depth; level++) {
      this.#noteMissing(leaf, rows * each, each, -1);
      leaf = duckdb.array_vector_get_child(leaf);
      each *= this.#depth === 1 ? width : rowShape[level] as number;
    }
    this.#noteMissing(leaf, rows * each, each, 0);
    this.#take(leaf, 0, rows * width, this.#rows * width, (index) => this.#note(this.#rows + Math.floor(index / width), index % width));
  }

  #appendLists(vector: Vector, rows: number): void {
    this.#noteMissing(vector, rows, 1, -1);
    const bytes = duckdb.vector_get_data(vector, rows * 16);
    const entries = new BigUint64Array(bytes.buffer, bytes.byteOffset, rows * 2);
    const leaf = duckdb.list_vector_get_child(vector);
    const valid = validityOf(leaf, duckdb.list_vector_get_size(vector));
    for (let row = 0; row < rows; row++) {
      const position = this.#rows + row;
      const missing = this.#bad.has(position);
      const offset = missing ? 0 : Number(entries[2 * row]);
      const length = missing ? 0 : Number(entries[2 * row + 1]);
      const start = this.#starts[position] as number;
      this.#starts.push(start + length);
      if (valid) for (let index = 0; index < length; index++) if (!isValid(valid, offset + index)) this.#note(position, index);
      this.#take(leaf, offset, length, start, (index) => this.#note(position, index));
    }
  }

  /** Copies `count` elements of the leaf to the place `at`. */
  #take(leaf: Vector, from: number, count: number, at: number, note: (index: number) => void): void {
    const { plan: { dtype }, leaf: kind } = this.#input;
    if (dtype === 'string') {
      const width = this.#width;
      const missing = (index: number): boolean => width !== undefined && this.#bad.get(this.#rows + Math.floor(index / width)) === -1;
      takeStrings(leaf, from, count, this.#strings, { note, missing });
      return;
    }
    const numbers = this.#room(dtype, at + count);
    if (kind === 'whole-numbers') narrow(elements(leaf, 'float64', from, count) as Float64Array, dtype, numbers, at, note);
    else if (kind === 'half') halve(elements(leaf, 'float32', from, count) as Float32Array, numbers, at, note);
    else numbers.set(elements(leaf, dtype, from, count) as never, at);
  }

  #room(dtype: NumericDtype, count: number): NumericArray {
    if (!this.#numbers || this.#numbers.length < count) {
      const larger = new arrayTypes[dtype](Math.max(count, 2 * (this.#numbers?.length ?? 0)));
      if (this.#numbers) larger.set(this.#numbers as never);
      this.#numbers = larger;
    }
    return this.#numbers;
  }

  /** Notes the rows of NULLs in a vector that has `each` items for a row. */
  #noteMissing(vector: Vector, count: number, each: number, element: -1 | 0): void {
    const valid = validityOf(vector, count);
    if (!valid) return;
    for (let index = 0; index < count; index++) {
      if (!isValid(valid, index)) this.#note(this.#rows + Math.floor(index / each), element === -1 ? -1 : index % each);
    }
  }

  #note(position: number, element: number): void {
    if (!this.#bad.has(position)) this.#bad.set(position, element);
  }
}

/** A copy of none: good until the next vector is fetched. */
function elements(leaf: Vector, dtype: NumericDtype, from: number, count: number): NumericArray {
  const ArrayType = arrayTypes[dtype];
  const bytes = duckdb.vector_get_data(leaf, (from + count) * ArrayType.BYTES_PER_ELEMENT);
  return new ArrayType(bytes.buffer, bytes.byteOffset + from * ArrayType.BYTES_PER_ELEMENT, count);
}

/** One bit an item; undefined where all are valid. */
function validityOf(vector: Vector, count: number): Uint8Array | undefined {
  if (count === 0) return undefined;
  // Its declared type leaves out that there may be no mask.
  const mask: Uint8Array | null = duckdb.vector_get_validity(vector, Math.ceil(count / 64) * 8);
  return mask ?? undefined;
}

function isValid(validity: Uint8Array, index: number): boolean {
  return ((validity[index >> 3] as number) & (1 << (index & 7))) !== 0;
}

const wholeRanges: Readonly<Partial<Record<NumericDtype, readonly [smallest: number, largest: number]>>> = {
  int8: [-128, 127], int16: [-32_768, 32_767], int32: [-2_147_483_648, 2_147_483_647],
  uint8: [0, 255], uint16: [0, 65_535], uint32: [0, 4_294_967_295],
  int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER], uint64: [0, Number.MAX_SAFE_INTEGER],
};

function narrow(from: Float64Array, dtype: NumericDtype, to: NumericArray, at: number, note: (index: number) => void): void {
  const [smallest, largest] = wholeRanges[dtype] as readonly [number, number];
  const big = to instanceof BigInt64Array || to instanceof BigUint64Array;
  for (let index = 0; index < from.length; index++) {
    const value = from[index] as number;
    if (value !== Math.trunc(value) || value < smallest || value > largest) note(index);
    else if (big) to[at + index] = BigInt(value);
    else to[at + index] = value;
  }
}

/** Refuses what is finite and would become infinite. */
function halve(from: Float32Array, to: NumericArray, at: number, note: (index: number) => void): void {
  const halves = to as Float16Array;
  for (let index = 0; index < from.length; index++) {
    const value = from[index] as number;
    halves[at + index] = value;
    if (Number.isFinite(value) && !Number.isFinite(halves[at + index])) note(index);
  }
}

/** What stands below a missing list is no string at all. */
function takeStrings(leaf: Vector, from: number, count: number, to: string[], { note, missing }: { readonly note: (index: number) => void; readonly missing: (index: number) => boolean }): void {
  const texts = DuckDBVarCharVector.fromRawVector(leaf, from + count);
  for (let index = 0; index < count; index++) {
    const text = missing(index) ? undefined : acceptors.string(texts.getItem(from + index));
    if (text === undefined) note(index);
    to.push((text as string | undefined) ?? '');
  }
}
