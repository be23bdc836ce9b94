// What a model.onnx says about itself, read without loading it: field numbers as in
// https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import type { Signature, TensorSpec } from '@millrace/protocol';
import { ModelRefused } from './model-refused.ts';
import { NodeScan } from './onnx-nodes.ts';
import { maxModelBytes, readSparseTensor, readTensor } from './onnx-tensor.ts';
import { maxNameBytes, readValueInfo, specOf } from './onnx-value.ts';
import type { ValueInfo } from './onnx-value.ts';
import { MalformedProtobuf, ProtobufReader, lengthTag, varintTag } from './protobuf-reader.ts';
import type { Range } from './protobuf-reader.ts';

export interface OnnxHeader {
  readonly signature: Signature;
  readonly irVersion: number;
  /** Version by domain; ONNX's own domain is `ai.onnx`. */
  readonly opsets: Readonly<Record<string, number>>;
  /** Name and version of the tool that wrote the file; empty where it does not say. */
  readonly producer: string;
}

/**
 * Reads the header of an ONNX file of any size in a few reads. Throws ModelRefused where the file is no whole ONNX
 * model or one whose inputs or outputs cannot travel as tensors; errors of the file system pass through.
 */
export async function readOnnxHeader(path: string): Promise<OnnxHeader> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    if (size === 0) throw new ModelRefused('the file is empty');
    if (size > maxModelBytes) throw new ModelRefused(`the file has ${size} bytes: ONNX files, as all of protobuf, have at most ${maxModelBytes}`);
    try {
      return await readModel(new ProtobufReader(file, size));
    } catch (error) {
      if (!(error instanceof MalformedProtobuf)) throw error;
      throw new ModelRefused(await explain(file, error), { cause: error });
    }
  } finally {
    await file.close();
  }
}

const lfsPointer = 'version https://git-lfs';

async function explain(file: FileHandle, error: MalformedProtobuf): Promise<string> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(lfsPointer.length), 0, lfsPointer.length, 0);
  return buffer.toString('latin1', 0, bytesRead) === lfsPointer
    ? 'the file is a Git LFS pointer, not the model itself: run git lfs pull'
    : `the file is not ONNX, or is cut off: ${error.message}`;
}

const inModel = {
  irVersion: varintTag(1), producerName: lengthTag(2), producerVersion: lengthTag(3), graph: lengthTag(7), opset: lengthTag(8),
  training: lengthTag(20), function: lengthTag(25),
};
const inOpset = { domain: lengthTag(1), version: varintTag(2) };

async function readModel(reader: ProtobufReader): Promise<OnnxHeader> {
  const graph = new Graph();
  const nodes = new NodeScan(reader);
  const opsets = new Map<string, number>();
  const producer = { name: '', version: '' };
  let irVersion = 0;
  for await (const { tag, value, range } of reader.fields(reader.whole, inModel)) {
    if (tag === inModel.irVersion) irVersion = value;
    else if (tag === inModel.producerName) producer.name = await reader.text(range, maxNameBytes);
    else if (tag === inModel.producerVersion) producer.version = await reader.text(range, maxNameBytes);
    else if (tag === inModel.graph) await graph.read(reader, range, nodes);
    else if (tag === inModel.training) await nodes.training(range);
    else if (tag === inModel.function) await nodes.function(range);
    else opsets.set(...await readOpset(reader, range));
  }
  if (irVersion <= 0) throw new ModelRefused('the file is not ONNX: it has no IR version');
  if (!graph.found) throw new ModelRefused('the file has no graph');
  // Since IR 3 ONNX Runtime insists on one; without it the file was cut off behind the graph.
  if (opsets.size === 0 && irVersion >= 3) throw new ModelRefused('the file does not name its opset: is it cut off?');
  return {
    signature: graph.signature(),
    irVersion,
    opsets: Object.fromEntries(opsets),
    producer: `${producer.name} ${producer.version}`.trim(),
  };
}

async function readOpset(reader: ProtobufReader, message: Range): Promise<[domain: string, version: number]> {
  let domain = '';
  let version = 0;
  for await (const { tag, value, range } of reader.fields(message, inOpset)) {
    if (tag === inOpset.domain) domain = await reader.text(range, maxNameBytes);
    else version = value;
  }
  return [domain || 'ai.onnx', version];
}

const inGraph = { node: lengthTag(1), initializer: lengthTag(5), input: lengthTag(11), output: lengthTag(12), sparseInitializer: lengthTag(15) };

/** The graph that is run: its own values make the signature. */
class Graph {
  found = false;
  readonly #inputs: ValueInfo[] = [];
  readonly #outputs: ValueInfo[] = [];
  readonly #initializers = new Set<string>();

  async read(reader: ProtobufReader, message: Range, nodes: NodeScan): Promise<void> {
    this.found = true;
    for await (const { tag, range } of reader.fields(message, inGraph)) {
      if (tag === inGraph.node) await nodes.node(range);
      else if (tag === inGraph.input) this.#inputs.push(await readValueInfo(reader, range));
      else if (tag === inGraph.output) this.#outputs.push(await readValueInfo(reader, range));
      else if (tag === inGraph.initializer) this.#initializers.add((await readTensor(reader, range)).name);
      else this.#initializers.add(await readSparseTensor(reader, range));
    }
  }

  /** Up to IR 3 every initializer was an input too, and later one may be, as a default: neither has to be given. */
  signature(): Signature {
    const inputs = this.#inputs.filter(({ name }) => !this.#initializers.has(name));
    if (this.#outputs.length === 0) throw new ModelRefused('the graph has no outputs');
    return { inputs: specsOf(inputs, 'input'), outputs: specsOf(this.#outputs, 'output') };
  }
}

function specsOf(values: readonly ValueInfo[], role: 'input' | 'output'): TensorSpec[] {
  const names = new Set<string>();
  return values.map((value) => {
    if (names.has(value.name)) throw new ModelRefused(`two ${role}s are called "${value.name}"`);
    names.add(value.name);
    return specOf(value, role);
  });
}
