// A tensor in an ONNX file (TensorProto, SparseTensorProto): where its elements are, and whether they can be as many as
// it says. The elements themselves are never read.
import { ModelRefused } from './model-refused.ts';
import { maxNameBytes, maxRank } from './onnx-value.ts';
import { fixed32Tag, fixed64Tag, lengthTag, varintTag } from './protobuf-reader.ts';
import type { ProtobufReader, Range } from './protobuf-reader.ts';

/** Those that are named last hold the elements, packed or one by one. */
const inTensor = {
  dim: varintTag(1), dims: lengthTag(1), elementType: varintTag(2), name: lengthTag(8), externalData: lengthTag(13), dataLocation: varintTag(14),
  raw: lengthTag(9), text: lengthTag(6), floats: lengthTag(4), int32s: lengthTag(5), int64s: lengthTag(7), doubles: lengthTag(10), uint64s: lengthTag(11),
  float: fixed32Tag(4), int32: varintTag(5), int64: varintTag(7), double: fixed64Tag(10), uint64: varintTag(11),
};
const inSparseTensor = { values: lengthTag(1), indices: lengthTag(2), dim: varintTag(3), dims: lengthTag(3) };
const externalLocation = 1;

/** By TensorProto.DataType. A string counts as a byte: the file has at least that for each. */
const elementBits = [0, 32, 8, 8, 16, 16, 32, 64, 8, 8, 16, 64, 32, 64, 64, 128, 16, 8, 8, 8, 8, 4, 4, 4, 8, 2, 2];
/** float32, float64, complex64 and complex128; outside of raw data, all others may be varints of one byte. */
const alwaysWide = [1, 11, 14, 15];

/** A file of ONNX can have no more, so neither can a tensor that is written out in full. */
export const maxModelBytes = 2 ** 31 - 1;

interface TensorHeader {
  readonly name: string;
  readonly elementType: number;
}

/**
 * What the tensor says about itself. Throws ModelRefused where its elements are in another file, or are more than this
 * file holds: the runtime would make room for them before it finds out.
 */
export async function readTensor(reader: ProtobufReader, message: Range): Promise<TensorHeader> {
  const dims: number[] = [];
  let [name, elementType, heldBytes] = ['', 0, 0];
  let [external, raw] = [false, false];
  for await (const { tag, value, range } of reader.fields(message, inTensor)) {
    if (tag === inTensor.dim) addDim(dims, value);
    else if (tag === inTensor.dims) await addDims(dims, reader, range);
    else if (tag === inTensor.elementType) elementType = value;
    else if (tag === inTensor.name) name = await reader.text(range, maxNameBytes);
    else if (tag === inTensor.externalData) external = true;
    else if (tag === inTensor.dataLocation) external ||= value === externalLocation;
    else {
      raw ||= tag === inTensor.raw;
      heldBytes += tag === inTensor.text ? 1 : range.end - range.start;
    }
  }
  const subject = name === '' ? 'a tensor without a name' : `"${name}"`;
  if (external) throw new ModelRefused(`the weights of ${subject} are in another file: save the model as one file, without save_as_external_data`);
  const bits = elementBits[elementType] ?? 0;
  const leastBytes = bytesOf(subject, dims, raw || alwaysWide.includes(elementType) ? bits : Math.min(bits, 8));
  if (leastBytes > heldBytes) {
    throw new ModelRefused(`${subject} has shape [${dims.join(', ')}], at least ${leastBytes} bytes, but the file holds ${heldBytes} for it`);
  }
  return { name, elementType };
}

/** The name of a sparse tensor is that of its values. The runtime writes it out in full: that must not be absurd either. */
export async function readSparseTensor(reader: ProtobufReader, message: Range): Promise<string> {
  const dims: number[] = [];
  let values: TensorHeader = { name: '', elementType: 0 };
  for await (const { tag, value, range } of reader.fields(message, inSparseTensor)) {
    if (tag === inSparseTensor.values) values = await readTensor(reader, range);
    else if (tag === inSparseTensor.indices) await readTensor(reader, range);
    else if (tag === inSparseTensor.dim) addDim(dims, value);
    else await addDims(dims, reader, range);
  }
  const fullBytes = bytesOf(`"${values.name}"`, dims, elementBits[values.elementType] ?? 0);
  if (fullBytes > maxModelBytes) throw new ModelRefused(`"${values.name}" has ${fullBytes} bytes when written out in full, more than ${maxModelBytes}`);
  return values.name;
}

async function addDims(dims: number[], reader: ProtobufReader, packed: Range): Promise<void> {
  for await (const dim of reader.varints(packed)) addDim(dims, dim);
}

function addDim(dims: number[], dim: number): void {
  if (dims.push(dim) > maxRank) throw new ModelRefused(`a tensor has more than ${maxRank} dimensions`);
}

function bytesOf(subject: string, dims: readonly number[], bits: number): bigint {
  const negative = dims.find((dim) => dim < 0);
  if (negative !== undefined) throw new ModelRefused(`${subject} has a dimension of ${negative}`);
  return (dims.reduce((elements, dim) => elements * BigInt(dim), BigInt(bits)) + 7n) / 8n;
}
