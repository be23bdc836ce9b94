// One input or output of an ONNX graph (ValueInfoProto), and which of them can be served.
import { dtypes } from '@millrace/protocol';
import type { Dim, Dtype, TensorSpec } from '@millrace/protocol';
import { ModelRefused } from './model-refused.ts';
import { lengthTag, varintTag } from './protobuf-reader.ts';
import type { ProtobufReader, Range } from './protobuf-reader.ts';

/** As the file has it; nothing is judged yet, because an input may turn out to be a weight. */
export interface ValueInfo {
  readonly name: string;
  readonly kind: Kind;
  /** Of a tensor: a TensorProto.DataType. */
  readonly elementType: number;
  /** Of a tensor; undefined where not even its rank is known. */
  readonly shape: readonly Dim[] | undefined;
}

type Kind = 'a tensor' | 'a sparse tensor' | 'a sequence' | 'a sequence of maps' | 'a map' | 'an optional' | 'untyped';
type Type = Omit<ValueInfo, 'name'>;

/** Longer names, symbols and domains are no work of an exporter. */
export const maxNameBytes = 4096;
/** As NumPy since 2.0. */
export const maxRank = 64;
const maxDim = 2 ** 31 - 1;

/** TensorProto.DataType, by number, in the words of the protocol; those that the protocol lacks cannot be served. */
const elementTypes = [
  'undefined', 'float32', 'uint8', 'int8', 'uint16', 'int16', 'int32', 'int64', 'string', 'bool', 'float16', 'float64',
  'uint32', 'uint64', 'complex64', 'complex128', 'bfloat16', 'float8e4m3fn', 'float8e4m3fnuz', 'float8e5m2',
  'float8e5m2fnuz', 'uint4', 'int4', 'float4e2m1', 'float8e8m0', 'uint2', 'int2',
];

const inValueInfo = { name: lengthTag(1), type: lengthTag(2) };
const inType = { tensor: lengthTag(1), sequence: lengthTag(4), map: lengthTag(5), sparse: lengthTag(8), optional: lengthTag(9) };
const inSequence = { element: lengthTag(1) };
const inTensor = { elementType: varintTag(1), shape: lengthTag(2) };
const inShape = { dim: lengthTag(1) };
const inDim = { value: varintTag(1), param: lengthTag(2) };

const untyped: Type = { kind: 'untyped', elementType: 0, shape: undefined };

export async function readValueInfo(reader: ProtobufReader, message: Range): Promise<ValueInfo> {
  let name = '';
  let type = untyped;
  for await (const { tag, range } of reader.fields(message, inValueInfo)) {
    if (tag === inValueInfo.name) name = await reader.text(range, maxNameBytes);
    else type = await readType(reader, range);
  }
  return { name, ...type };
}

async function readType(reader: ProtobufReader, message: Range): Promise<Type> {
  let type = untyped;
  for await (const { tag, range } of reader.fields(message, inType)) {
    if (tag === inType.tensor) type = await readTensorType(reader, range);
    else if (tag === inType.sequence) type = { ...untyped, kind: await readSequenceKind(reader, range) };
    else if (tag === inType.map) type = { ...untyped, kind: 'a map' };
    else if (tag === inType.sparse) type = { ...untyped, kind: 'a sparse tensor' };
    else type = { ...untyped, kind: 'an optional' };
  }
  return type;
}

async function readSequenceKind(reader: ProtobufReader, message: Range): Promise<Kind> {
  let ofMaps = false;
  for await (const { range } of reader.fields(message, inSequence)) {
    for await (const element of reader.fields(range, inType)) ofMaps ||= element.tag === inType.map;
  }
  return ofMaps ? 'a sequence of maps' : 'a sequence';
}

async function readTensorType(reader: ProtobufReader, message: Range): Promise<Type> {
  let elementType = 0;
  let shape: Dim[] | undefined;
  for await (const { tag, value, range } of reader.fields(message, inTensor)) {
    if (tag === inTensor.elementType) elementType = value;
    else shape = await readShape(reader, range);
  }
  return { kind: 'a tensor', elementType, shape };
}

async function readShape(reader: ProtobufReader, message: Range): Promise<Dim[]> {
  const shape: Dim[] = [];
  for await (const { range } of reader.fields(message, inShape)) shape.push(await readDim(reader, range));
  return shape;
}

async function readDim(reader: ProtobufReader, message: Range): Promise<Dim> {
  let dim: Dim = -1;
  for await (const { tag, value, range } of reader.fields(message, inDim)) {
    if (tag === inDim.value) dim = Math.max(value, -1);
    else dim = (await reader.text(range, maxNameBytes)) || -1;
  }
  return dim;
}

/** Throws ModelRefused where the value is not a tensor of known rank and of a dtype of the protocol. */
export function specOf({ name, kind, elementType, shape }: ValueInfo, role: 'input' | 'output'): TensorSpec {
  if (name === '') throw new ModelRefused(`an ${role} has no name`);
  // Tensors are kept as members of plain objects.
  if (name === '__proto__') throw new ModelRefused(`an ${role} is named __proto__`);
  const subject = `${role} "${name}"`;
  if (kind === 'a sequence of maps') {
    throw new ModelRefused(
      `${subject} is a sequence of maps, as scikit-learn classifiers get with ZipMap: export again with options={"zipmap": False}`,
    );
  }
  if (kind !== 'a tensor') throw new ModelRefused(`${subject} is not a tensor but ${kind}: only tensors can be served`);
  const dtype = elementTypes[elementType] ?? `of the unknown element type ${elementType}`;
  if (!isDtype(dtype)) throw new ModelRefused(`${subject} is ${dtype}: cast it inside the model to one of ${dtypes.join(', ')}`);
  // An output's rank may be missing in ONNX, but then nobody can say whether its rows can be told apart.
  if (!shape) {
    throw new ModelRefused(`${subject} has no shape, but its rank must be known: run onnx.shape_inference.infer_shapes, or set it before saving`);
  }
  if (shape.length > maxRank) throw new ModelRefused(`${subject} has ${shape.length} dimensions, more than ${maxRank}`);
  const absurd = shape.find((dim) => typeof dim === 'number' && dim > maxDim);
  if (absurd !== undefined) throw new ModelRefused(`${subject} has a dimension of ${absurd}, more than ${maxDim}`);
  const elements = shape.reduce<number>((product, dim) => (typeof dim === 'number' && dim > 0 ? product * dim : product), 1);
  if (elements > maxDim) throw new ModelRefused(`${subject} has at least ${elements} elements, more than ${maxDim}`);
  return { name, dtype, shape };
}

function isDtype(name: string): name is Dtype {
  return (dtypes as readonly string[]).includes(name);
}
