// A model version's inputs and outputs, and the check of a prediction against them.
import { describe } from './elements.ts';
import { FaultList, isTensorObject, readFlat, readNested, shapeOfNested } from './plain.ts';
import { below } from './pointer.ts';
import type { Dtype, Tensor, Tensors } from './tensor.ts';

/** A fixed length; a symbol where the model names a dynamic one; -1 where it leaves it unnamed. */
export type Dim = number | string;

export interface TensorSpec {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly Dim[];
}

export interface Signature {
  readonly inputs: readonly TensorSpec[];
  readonly outputs: readonly TensorSpec[];
}

/**
 * Whether rows of many predictions can be stacked along the first dimension: it is dynamic in every input and output,
 * and no two inputs name it differently. Exporters name outputs' dimensions freely, so those are proven by the
 * worker's warm-up instead.
 */
export function isBatched({ inputs, outputs }: Signature): boolean {
  const dynamic = [...inputs, ...outputs].every(({ shape }) => isDynamic(shape[0]));
  const symbols = new Set(inputs.map(({ shape }) => shape[0]).filter((dim) => typeof dim === 'string'));
  return inputs.length > 0 && dynamic && symbols.size <= 1;
}

function isDynamic(dim: Dim | undefined): boolean {
  return dim === -1 || typeof dim === 'string';
}

/** `[rows, 4]`, as error messages and model pages show it. */
export function printShape(shape: readonly Dim[]): string {
  return `[${shape.map((dim) => (dim === -1 ? 'any' : dim)).join(', ')}]`;
}

export interface CheckedInputs {
  /** By name, in the signature's order. */
  readonly inputs: Tensors;
  /** The common first dimension; 1 where the model has no batch dimension. */
  readonly rows: number;
}

/**
 * Reads a request's `inputs`: a map of input name to nested arrays or tensor object, or one of these alone where the
 * model has one input. `batched` as `isBatched` has it. Reports every fault; undefined where there was any.
 */
export function readInputs({ signature, batched }: { readonly signature: Signature; readonly batched: boolean }, value: unknown, pointer: string, faults: FaultList): CheckedInputs | undefined {
  const before = faults.faults.length;
  const [first, second] = signature.inputs;
  const symbols = new Map<string, number>();
  const inputs: Record<string, Tensor> = {};
  const read = (spec: TensorSpec, one: unknown, at: string): void => {
    const tensor = readInput(spec, one, at, symbols, faults);
    if (tensor) inputs[spec.name] = tensor;
  };

  if (first && !second && (!isMap(value) || (isTensorObject(value) && !Object.hasOwn(value, first.name)))) {
    read(first, value, pointer);
  } else if (!isMap(value)) {
    faults.add(pointer, `expected an object with the inputs ${names(signature.inputs)}, got ${describe(value)}`);
  } else {
    for (const spec of signature.inputs) {
      if (Object.hasOwn(value, spec.name)) read(spec, value[spec.name], below(pointer, spec.name));
      else faults.add(below(pointer, spec.name), `missing input: ${expectation(spec)}`);
    }
    for (const name of Object.keys(value)) {
      if (!signature.inputs.some((spec) => spec.name === name)) {
        faults.add(below(pointer, name), `unknown input: the model has ${names(signature.inputs)}`);
      }
    }
  }
  const rows = batched ? commonRows(inputs, pointer, faults) : 1;
  return faults.faults.length === before ? { inputs, rows } : undefined;
}

function readInput(spec: TensorSpec, value: unknown, pointer: string, symbols: Map<string, number>, faults: FaultList): Tensor | undefined {
  if (!isTensorObject(value)) {
    const shape = shapeOfNested(value, spec.shape.length);
    if (!checkShape(spec, shape, pointer, symbols, faults)) return undefined;
    return readNested(value, spec.dtype, shape, pointer, faults);
  }
  const { dtype, shape, data } = value;
  if (dtype !== spec.dtype) {
    faults.add(below(pointer, 'dtype'), `expected ${spec.dtype}, got ${describe(dtype)}`);
  }
  if (!Array.isArray(shape) || !shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0)) {
    faults.add(below(pointer, 'shape'), `expected an array of whole numbers, got ${describe(shape)}`);
    return undefined;
  }
  const fits = checkShape(spec, shape as number[], below(pointer, 'shape'), symbols, faults);
  return fits && dtype === spec.dtype ? readFlat(data, spec.dtype, shape as number[], below(pointer, 'data'), faults) : undefined;
}

function checkShape(spec: TensorSpec, shape: readonly number[], pointer: string, symbols: Map<string, number>, faults: FaultList): boolean {
  if (shape.length !== spec.shape.length) {
    const deeper = shape.length > spec.shape.length;
    faults.add(pointer, `${expectation(spec)}, got ${shape.length === 0 ? 'no array' : `shape [${shape.join(', ')}${deeper ? ', …' : ''}]`}`);
    return false;
  }
  for (let index = 0; index < shape.length; index++) {
    const dim = spec.shape[index] as Dim;
    const length = shape[index] as number;
    const bound = typeof dim === 'string' ? symbols.get(dim) : undefined;
    const fits = typeof dim === 'number' ? dim === -1 || dim === length : bound === undefined || bound === length;
    if (!fits) {
      const reason = typeof dim === 'string' ? ` (${dim} is ${bound} in another input)` : '';
      faults.add(pointer, `${expectation(spec)}, got shape [${shape.join(', ')}]${reason}`);
      return false;
    }
    if (typeof dim === 'string') symbols.set(dim, length);
  }
  return true;
}

function commonRows(inputs: Tensors, pointer: string, faults: FaultList): number {
  let rows: number | undefined;
  for (const name in inputs) {
    const own = (inputs[name] as Tensor).shape[0] as number;
    rows ??= own;
    if (own !== rows) faults.add(below(pointer, name), `expected as many rows in every input, got ${rows} and ${own}`);
  }
  if (rows === 0) faults.add(pointer, 'expected at least one row, got none');
  return rows ?? 1;
}

function expectation({ dtype, shape }: TensorSpec): string {
  return `expected ${dtype} of shape ${printShape(shape)}`;
}

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function names(specs: readonly TensorSpec[]): string {
  return specs.map(({ name }) => `"${name}"`).join(', ');
}
