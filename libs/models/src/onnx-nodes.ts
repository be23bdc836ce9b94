// Nodes of a graph, and what may be inside of them: tensors, and graphs with nodes again. Nothing of it is needed to
// serve the model; it is looked through for what must not be loaded.
import { ModelRefused } from './model-refused.ts';
import { maxNameBytes } from './onnx-value.ts';
import { readSparseTensor, readTensor } from './onnx-tensor.ts';
import { lengthTag } from './protobuf-reader.ts';
import type { ProtobufReader, Range } from './protobuf-reader.ts';

const inGraph = { node: lengthTag(1), initializer: lengthTag(5), sparseInitializer: lengthTag(15) };
const inNode = { output: lengthTag(2), name: lengthTag(3), attribute: lengthTag(5) };
const inAttribute = {
  tensor: lengthTag(5), graph: lengthTag(6), tensors: lengthTag(10), graphs: lengthTag(11), sparseTensor: lengthTag(22), sparseTensors: lengthTag(23),
};
const inFunction = { name: lengthTag(1), node: lengthTag(7), attribute: lengthTag(11) };
const inTraining = { initialization: lengthTag(1), algorithm: lengthTag(2) };

/** It takes about three seconds to look through so many. */
const maxNodes = 1_000_000;
/** The runtime reads no deeper: its protobuf stops at 100 messages, and each graph in a graph is three of them. */
const maxDepth = 32;

/** One for a model: its nodes are counted over all graphs. Every method throws ModelRefused. */
export class NodeScan {
  readonly #reader: ProtobufReader;
  #nodes = 0;

  constructor(reader: ProtobufReader) {
    this.#reader = reader;
  }

  /** `depth` counts the graphs around the node's own. */
  async node(message: Range, depth = 0): Promise<void> {
    if (++this.#nodes > maxNodes) throw new ModelRefused(`the model has more than ${maxNodes} nodes`);
    let name: Range | undefined;
    for await (const { tag, range } of this.#reader.fields(message, inNode)) {
      if (tag === inNode.attribute) await this.#attribute(range, depth).catch((error: unknown) => this.#blame('node', name, error));
      // Most nodes have no name; each has outputs, which no other node has.
      else if (tag === inNode.output) name ??= range;
      else if (range.end > range.start) name = range;
    }
  }

  /** A function that the model brings along for its nodes to call. */
  async function(message: Range): Promise<void> {
    let name: Range | undefined;
    for await (const { tag, range } of this.#reader.fields(message, inFunction)) {
      if (tag === inFunction.name) name = range;
      else await (tag === inFunction.node ? this.node(range) : this.#attribute(range, 0)).catch((error: unknown) => this.#blame('function', name, error));
    }
  }

  async training(message: Range): Promise<void> {
    for await (const { range } of this.#reader.fields(message, inTraining)) await this.#graph(range, 0);
  }

  async #attribute(message: Range, depth: number): Promise<void> {
    for await (const { tag, range } of this.#reader.fields(message, inAttribute)) {
      if (tag === inAttribute.graph || tag === inAttribute.graphs) await this.#graph(range, depth + 1);
      else if (tag === inAttribute.tensor || tag === inAttribute.tensors) await readTensor(this.#reader, range);
      else await readSparseTensor(this.#reader, range);
    }
  }

  async #graph(message: Range, depth: number): Promise<void> {
    if (depth > maxDepth) throw new ModelRefused(`its graphs are nested more than ${maxDepth} deep`);
    for await (const { tag, range } of this.#reader.fields(message, inGraph)) {
      if (tag === inGraph.node) await this.node(range, depth);
      else if (tag === inGraph.initializer) await readTensor(this.#reader, range);
      else await readSparseTensor(this.#reader, range);
    }
  }

  /** Names are only read here: there are many, and mostly there is nothing to blame. */
  async #blame(what: string, name: Range | undefined, error: unknown): Promise<never> {
    if (!(error instanceof ModelRefused) || !name) throw error;
    throw new ModelRefused(`${what} "${await this.#reader.text(name, maxNameBytes)}": ${error.message}`);
  }
}
