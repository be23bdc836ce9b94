// Tensors between processes: little-endian bytes, row-major, with dtype and shape.

/** Every dtype that ONNX Runtime's Node binding takes, with its array type and what may stand in it. */
export const dtypes = [
  'float32', 'float64', 'float16',
  'int8', 'int16', 'int32', 'int64',
  'uint8', 'uint16', 'uint32', 'uint64',
  'bool', 'string',
] as const;
export type Dtype = (typeof dtypes)[number];
export type NumericDtype = Exclude<Dtype, 'string'>;

/** One element as it stands in a typed array. */
export type NumericArray =
  | Float32Array | Float64Array | Float16Array
  | Int8Array | Int16Array | Int32Array | BigInt64Array
  | Uint8Array | Uint16Array | Uint32Array | BigUint64Array;

interface NumericArrayConstructor {
  readonly BYTES_PER_ELEMENT: number;
  new (length: number): NumericArray;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): NumericArray;
}

export const arrayTypes: Readonly<Record<NumericDtype, NumericArrayConstructor>> = {
  float32: Float32Array, float64: Float64Array, float16: Float16Array,
  int8: Int8Array, int16: Int16Array, int32: Int32Array, int64: BigInt64Array,
  uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, uint64: BigUint64Array,
  bool: Uint8Array,
};

/** Numbers as bytes: `product(shape) × element size` of them, little-endian, row-major; a bool is one byte, 0 or 1. */
export interface NumericTensor {
  readonly dtype: NumericDtype;
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

/** Strings, `product(shape)` of them, row-major. */
export interface StringTensor {
  readonly dtype: 'string';
  readonly shape: readonly number[];
  readonly data: readonly string[];
}

export type Tensor = NumericTensor | StringTensor;
export type Tensors = Readonly<Record<string, Tensor>>;

/** A tensor inside JSON: base64 of its bytes; strings as they are; or `[offset, length]` of its bytes in a payload beside the message. */
export interface WireTensor {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: string | readonly string[] | readonly [offset: number, length: number];
}
export type WireTensors = Readonly<Record<string, WireTensor>>;

/** The number of elements of a shape; 1 for a scalar's `[]`. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

export function elementBytes(dtype: NumericDtype): number {
  return arrayTypes[dtype].BYTES_PER_ELEMENT;
}

/** The tensor's numbers as a typed array: a view where the bytes lie aligned, else a copy. */
export function numbersOf({ dtype, data }: NumericTensor): NumericArray {
  const ArrayType = arrayTypes[dtype];
  const aligned = data.byteOffset % ArrayType.BYTES_PER_ELEMENT === 0 ? data : data.slice();
  return new ArrayType(aligned.buffer, aligned.byteOffset, aligned.byteLength / ArrayType.BYTES_PER_ELEMENT);
}

/** The bytes under a typed array, without a copy. */
export function bytesOf(numbers: NumericArray): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}

/** Bytes that the tensor takes, strings counted as UTF-16. */
export function sizeBytes(tensor: Tensor): number {
  return tensor.dtype === 'string'
    ? tensor.data.reduce((sum, text) => sum + 2 * text.length, 0)
    : tensor.data.byteLength;
}

export function toBase64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

export function toWire({ dtype, shape, data }: Tensor): WireTensor {
  return { dtype, shape, data: data instanceof Uint8Array ? toBase64(data) : data };
}

export function toWireAll(tensors: Tensors): WireTensors {
  return mapTensors(tensors, toWire);
}

/**
 * Reads tensors from their wire form; `payload` is the bytes that lay beside the message, if any did.
 * Throws a plain Error where the message is not what this version writes: a bug, not a user's fault.
 */
export function fromWireAll(tensors: WireTensors, payload?: Uint8Array): Tensors {
  return mapTensors(tensors, (tensor) => fromWire(tensor, payload));
}

function fromWire({ dtype, shape, data }: WireTensor, payload: Uint8Array | undefined): Tensor {
  if (typeof data === 'string') return { dtype: numeric(dtype), shape, data: Buffer.from(data, 'base64') };
  if (dtype === 'string') return { dtype, shape, data: data as readonly string[] };
  const [offset, length] = data as readonly [number, number];
  if (!payload || offset + length > payload.byteLength) throw new Error('a tensor points outside its payload');
  return { dtype, shape, data: payload.subarray(offset, offset + length) };
}

function numeric(dtype: Dtype): NumericDtype {
  if (dtype === 'string') throw new Error('strings have no bytes form');
  return dtype;
}

/** Maps a record of named tensors. Names come from a model's signature, where `__proto__` is refused. */
export function mapTensors<From, To>(
  tensors: Readonly<Record<string, From>>,
  change: (tensor: From, name: string) => To,
): Record<string, To> {
  const mapped: Record<string, To> = {};
  for (const name in tensors) mapped[name] = change(tensors[name] as From, name);
  return mapped;
}

/**
 * Puts the bytes of all numeric tensors into one payload and leaves `[offset, length]` in their places.
 * Strings stay inline.
 */
export function detachPayload(tensors: Tensors): { inputs: WireTensors; payload: Uint8Array } {
  const parts: Uint8Array[] = [];
  let offset = 0;
  const inputs = mapTensors(tensors, (tensor): WireTensor => {
    if (tensor.dtype === 'string') return tensor;
    const place = [offset, tensor.data.byteLength] as const;
    parts.push(tensor.data);
    offset += tensor.data.byteLength;
    return { dtype: tensor.dtype, shape: tensor.shape, data: place };
  });
  return { inputs, payload: Buffer.concat(parts) };
}

/**
 * Frees the buffer behind bytes that nobody reads any more, but for the one that Node shares among small ones. The garbage collector would
 * let much of it pile up, and mark all objects for it.
 */
export function giveBack({ buffer }: Uint8Array): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength > Buffer.poolSize) buffer.transfer(0);
}

/** Likewise, of tensors. */
export function giveBackAll(tensors: Iterable<Tensor>): void {
  for (const { dtype, data } of tensors) if (dtype !== 'string') giveBack(data);
}
