// Tensors that the model gave, as a temporary table of DuckDB: memory is copied, values are not converted.
import { ARRAY, BIGINT, BOOLEAN, DOUBLE, type DuckDBConnection, DuckDBDataChunk, type DuckDBType, FLOAT, INTEGER, LIST, SMALLINT, TINYINT, UBIGINT, UINTEGER, USMALLINT, UTINYINT, VARCHAR } from '@duckdb/node-api';
import duckdb, { type Vector } from '@duckdb/node-bindings';
import { bytesOf, type Dtype, elementBytes, elementCount, type NumericTensor, numbersOf, type Tensor } from '@millrace/protocol';
import type { RowsDone } from './part.ts';
import { type OutputPlan, type Plan, widthOf } from './plan.ts';

const types: Readonly<Record<Dtype, DuckDBType>> = {
  float32: FLOAT, float64: DOUBLE, float16: FLOAT,
  int8: TINYINT, int16: SMALLINT, int32: INTEGER, int64: BIGINT,
  uint8: UTINYINT, uint16: USMALLINT, uint32: UINTEGER, uint64: UBIGINT,
  bool: BOOLEAN, string: VARCHAR,
};

/** How an output stands in the table: a value, arrays of its shape, or, where rows differ in length, a flat list. */
function columnType({ dtype, rowShape, form }: OutputPlan): DuckDBType {
  if (form === 'value') return types[dtype];
  const width = widthOf(rowShape);
  if (width === undefined) return LIST(types[dtype]);
  if (form === 'expanded') return ARRAY(types[dtype], width);
  return rowShape.toReversed().reduce<DuckDBType>((type, dim) => ARRAY(type, dim), types[dtype]);
}

function columnTypes(plan: Plan): DuckDBType[] {
  return [INTEGER, ...plan.outputs.map(columnType), ...(plan.labels ? [VARCHAR] : [])];
}

export async function createOutcomeTable(connection: DuckDBConnection, plan: Plan): Promise<void> {
  const names = ['position', ...plan.outputs.map((_output, index) => `o${index}`), ...(plan.labels ? ['label'] : [])];
  const columns = columnTypes(plan).map((type, index) => `${names[index]} ${type.toString()}`);
  await connection.run(`CREATE OR REPLACE TEMP TABLE __outcome (${columns.join(', ')})`);
}

/** DuckDB's vectors hold no more. */
const step = 2048;

/** Returns whether all floating-point values are finite, where that matters: JSON has no word for the others. */
export async function appendOutcome(connection: DuckDBConnection, plan: Plan, done: readonly RowsDone[]): Promise<boolean> {
  const columns = columnTypes(plan);
  const appender = await connection.createAppender('__outcome');
  let finite = true;
  for (const { positions, outputs, labels } of done) {
    const tensors = plan.outputs.map((output) => prepared(output, outputs[output.name], positions.length));
    finite &&= plan.outputFormat !== 'ndjson' || tensors.every(isFiniteTensor);
    for (let from = 0; from < positions.length; from += step) {
      const rows = Math.min(step, positions.length - from);
      const vectors = DuckDBDataChunk.create(columns, rows);
      writeBytes(vectorAt(vectors, 0), bytesOf(positions.subarray(from, from + rows)));
      for (const [index, output] of plan.outputs.entries()) writeRows(vectorAt(vectors, index + 1), output, tensors[index] as Tensor, { from, rows });
      if (plan.labels) writeStrings(vectorAt(vectors, columns.length - 1), (labels ?? []).slice(from, from + rows), rows);
      appender.appendDataChunk(vectors);
    }
  }
  appender.closeSync();
  return finite;
}

function vectorAt({ chunk }: DuckDBDataChunk, index: number): Vector {
  return duckdb.data_chunk_get_vector(chunk, index);
}

/** A float16 is written as the float32 that it equals. Throws where the model gave something other than its signature says. */
function prepared({ name, dtype, rowShape }: OutputPlan, tensor: Tensor | undefined, rows: number): Tensor {
  const width = widthOf(rowShape);
  const fits = tensor !== undefined && tensor.dtype === dtype && tensor.shape[0] === rows && (width === undefined || elementCount(tensor.shape) === rows * width);
  if (!fits) throw new Error(`the output "${name}" is ${tensor ? `${tensor.dtype} [${tensor.shape.join(', ')}]` : 'missing'}, and should be ${dtype} [${[rows, ...rowShape].join(', ')}]`);
  if (tensor.dtype !== 'float16') return tensor;
  return { dtype: 'float32', shape: tensor.shape, data: bytesOf(Float32Array.from(numbersOf(tensor) as Float16Array)) };
}

function isFiniteTensor(tensor: Tensor): boolean {
  return (tensor.dtype !== 'float32' && tensor.dtype !== 'float64') || (numbersOf(tensor) as Float32Array | Float64Array).every(Number.isFinite);
}

function writeRows(vector: Vector, output: OutputPlan, tensor: Tensor, { from, rows }: { readonly from: number; readonly rows: number }): void {
  const width = elementCount(tensor.shape.slice(1));
  const leaf = output.form === 'value' ? vector : widthOf(output.rowShape) === undefined ? listLeaf(vector, rows, width) : arrayLeaf(vector, output);
  if (tensor.dtype === 'string') writeStrings(leaf, tensor.data.slice(from * width, (from + rows) * width), rows * width);
  else writeBytes(leaf, slice(tensor, from * width, (from + rows) * width));
}

function slice({ dtype, data }: NumericTensor, from: number, to: number): Uint8Array {
  return data.subarray(from * elementBytes(dtype), to * elementBytes(dtype));
}

function arrayLeaf(vector: Vector, { form, rowShape }: OutputPlan): Vector {
  const depth = form === 'expanded' ? 1 : rowShape.length;
  let leaf = vector;
  for (let level = 0; level < depth; level++) leaf = duckdb.array_vector_get_child(leaf);
  return leaf;
}

/** Every row has `width` elements here; another slice of the chunk may have others. */
function listLeaf(vector: Vector, rows: number, width: number): Vector {
  duckdb.list_vector_reserve(vector, rows * width);
  duckdb.list_vector_set_size(vector, rows * width);
  const entries = BigUint64Array.from({ length: 2 * rows }, (_, index) => BigInt(index % 2 === 0 ? (index / 2) * width : width));
  writeBytes(vector, bytesOf(entries));
  return duckdb.list_vector_get_child(vector);
}

function writeBytes(vector: Vector, bytes: Uint8Array): void {
  if (bytes.length > 0) duckdb.copy_data_to_vector(vector, 0, bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

function writeStrings(vector: Vector, texts: readonly string[], count: number): void {
  if (texts.length !== count) throw new Error(`expected ${count} strings, got ${texts.length}`);
  for (const [index, text] of texts.entries()) duckdb.vector_assign_string_element(vector, index, text);
}
