// From the columns of an input to the inputs of a model: what the job says, or what the names tell. All faults at once.
import { below, type Dim, type Dtype, FaultList, printShape, type Signature, type TensorSpec, shapeOfNested } from '@millrace/protocol';
import type { BackfillData, BackfillOutput, Format } from './job.ts';
import { type ColumnRef, type InputPlan, type OutputPlan, widthOf } from './plan.ts';
import type { ColumnSchema, InputSchema } from './schema.ts';

export interface Mapped {
  readonly inputs: readonly InputPlan[];
  readonly id: ColumnRef | undefined;
  readonly carry: readonly ColumnRef[];
}

export interface MappingQuestion {
  readonly data: BackfillData;
  readonly format: Format;
  readonly signature: Signature;
  readonly schema: InputSchema;
}

export function mapColumns(question: MappingQuestion, faults: FaultList): Mapped {
  const { data, signature } = question;
  const id = idOf(question, faults);
  const carry = (data.carry ?? []).map((name, index) => refTo(question, name, `#/carry/${index}`, faults)).filter((ref) => ref !== undefined);
  const inputs = signature.inputs.map((spec) => {
    const pointer = below('#/mapping', spec.name);
    const named = data.mapping?.[spec.name] ?? columnsByName(question, spec.name, [id, ...carry]);
    if (named === undefined) faults.add(pointer, `nothing says which column holds the input "${spec.name}"`);
    return named === undefined ? undefined : inputPlan(question, spec, named, pointer, faults);
  });
  return { inputs: inputs.filter((input) => input !== undefined), id, carry };
}

function idOf(question: MappingQuestion, faults: FaultList): ColumnRef | undefined {
  const name = question.data.id_column ?? (isBatchFile(question) ? 'custom_id' : undefined);
  return name === undefined ? undefined : refTo(question, name, '#/id_column', faults);
}

/** Lines `{"custom_id": …, "body": {"inputs": …}}`, as batch files of other APIs have them. */
function isBatchFile({ format, schema: { sample } }: MappingQuestion): boolean {
  return format === 'ndjson' && 'custom_id' in sample && isObject(sample.body) && 'inputs' in sample.body;
}

/** What is named by the user may be a path, with dots; an input's own name has them as they are. */
type Named = string | readonly string[] | ColumnRef;

function columnsByName(question: MappingQuestion, input: string, others: readonly (ColumnRef | undefined)[]): Named | undefined {
  const { format, signature, schema: { columns, sample } } = question;
  if (isBatchFile(question)) return isObject((sample.body as { inputs: unknown }).inputs) ? memberRef('body', 'inputs', input) : memberRef('body', 'inputs');
  if (columns.some(({ name }) => name === input)) return input;
  if (format === 'ndjson' && isObject(sample.inputs)) return memberRef('inputs', input);
  if (signature.inputs.length > 1) return undefined;
  const left = columns.filter(({ name }) => !others.some((other) => other?.name === name)).map(({ name }) => name);
  return left.length === 0 ? undefined : left.length === 1 ? left[0] : left;
}

function memberRef(...path: readonly string[]): ColumnRef {
  return { name: path.join('.'), path };
}

function refsTo(question: MappingQuestion, named: Named, pointer: string, faults: FaultList): readonly (ColumnRef | undefined)[] {
  if (typeof named === 'string') return [refTo(question, named, pointer, faults)];
  return 'path' in named ? [named] : named.map((name, index) => refTo(question, name, `${pointer}/${index}`, faults));
}

function refTo({ format, schema: { columns, sample } }: MappingQuestion, name: string, pointer: string, faults: FaultList): ColumnRef | undefined {
  const index = columns.findIndex((column) => column.name === name);
  if (index !== -1) return { name, path: [name], ...(format === 'csv' && { index }), ...typeOf(columns[index] as ColumnSchema) };
  // The first line may lack a member that others have; a path cannot be told from a typo there.
  if (format === 'ndjson' && (name.includes('.') ? (name.split('.')[0] as string) in sample : false)) return { name, path: name.split('.') };
  const listed = columns.slice(0, 20).map((column) => `"${column.name}"`).join(', ');
  faults.add(pointer, `there is no column "${name}": there are ${listed}${columns.length > 20 ? `, and ${columns.length - 20} more` : ''}`);
  return undefined;
}

function typeOf({ type }: ColumnSchema): { readonly type?: string } {
  return type === undefined ? {} : { type };
}

function inputPlan(question: MappingQuestion, spec: TensorSpec, named: Named, pointer: string, faults: FaultList): InputPlan | undefined {
  const columns = refsTo(question, named, pointer, faults);
  if (columns.includes(undefined) || !hasRows(spec)) return undefined;
  const refs = columns as ColumnRef[];
  const shape = rowShapeOf(spec);
  const depth = Array.isArray(named) ? 0 : listDepth(question, refs[0] as ColumnRef, shape);
  const before = faults.faults.length;
  for (const ref of refs) checkType(spec, ref, pointer, faults);
  const rowShape = depth === 0 ? shapeOfColumns(spec, shape, refs.length, pointer, faults) : shapeOfList(spec, shape, depth, refs[0] as ColumnRef, pointer, faults);
  if (faults.faults.length > before || !rowShape) return undefined;
  return { name: spec.name, dtype: spec.dtype, rowShape, from: depth === 0 ? 'columns' : 'list', depth: Math.max(depth, 1), inBatch: isInBatch(shape, depth), columns: refs };
}

/** Its first dimension is that of the rows: open, or one row a run. */
export function hasRows({ shape: [first] }: TensorSpec): boolean {
  return first !== undefined && (typeof first === 'string' || first === -1 || first === 1);
}

export function rowShapeOf({ shape }: TensorSpec): readonly number[] {
  return shape.slice(1).map((dim: Dim) => (typeof dim === 'string' ? -1 : dim));
}

/** How deep the lists of a column are nested; 0 where it holds single values. */
function listDepth({ format, schema: { sample } }: MappingQuestion, ref: ColumnRef, rowShape: readonly number[]): number {
  if (format === 'parquet') return ref.type?.match(/\[\d*\]/g)?.length ?? 0;
  const value = ref.path.reduce<unknown>((object, step) => (isObject(object) ? object[step] : undefined), sample);
  if (format === 'ndjson' && Array.isArray(value)) return shapeOfNested(value, 32).length;
  const width = widthOf(rowShape);
  if (format === 'ndjson' || width === 1) return 0;
  return typeof value === 'string' && value.trim().startsWith('[') ? /^[\s[]*/.exec(value)?.[0].replaceAll(/\s/g, '').length ?? 1 : Number(width !== undefined || rowShape.length > 1);
}

/** Why so many columns of single values cannot make up the input; undefined where they can. */
export function countFault({ name, shape }: TensorSpec, rowShape: readonly number[], count: number): string | undefined {
  const dynamic = rowShape.filter((dim) => dim === -1).length;
  const fixed = fixedWidth(rowShape);
  if (dynamic > 1) return `"${name}" has shape ${printShape(shape)}: columns leave more than one of its dimensions open`;
  if (dynamic === 0 ? count === fixed : count % fixed === 0) return undefined;
  return `"${name}" has shape ${printShape(shape)}: expected ${dynamic === 0 ? fixed : `a multiple of ${fixed}`} columns, got ${count}`;
}

function fixedWidth(rowShape: readonly number[]): number {
  return rowShape.reduce((product, dim) => (dim === -1 ? product : product * dim), 1);
}

function shapeOfColumns(spec: TensorSpec, rowShape: readonly number[], count: number, pointer: string, faults: FaultList): readonly number[] {
  const fault = countFault(spec, rowShape, count);
  if (fault !== undefined) faults.add(pointer, fault);
  return rowShape.map((dim) => (dim === -1 ? count / fixedWidth(rowShape) : dim));
}

function isInBatch(rowShape: readonly number[], depth: number): boolean {
  return depth > 1 && depth === rowShape.length + 1;
}

function shapeOfList(spec: TensorSpec, rowShape: readonly number[], depth: number, { name, type }: ColumnRef, pointer: string, faults: FaultList): readonly number[] | undefined {
  const width = widthOf(rowShape);
  const expected = `"${spec.name}" has shape ${printShape(spec.shape)}: `;
  const inBatch = isInBatch(rowShape, depth);
  const rowDepth = inBatch ? depth - 1 : depth;
  const nested = rowDepth > 1;
  if (nested && rowDepth !== rowShape.length) faults.add(pointer, `${expected}expected lists nested ${rowShape.length} deep, or flat ones, and column "${name}" has them ${depth} deep`);
  else if (nested && width === undefined) faults.add(pointer, `${expected}where a dimension is open, the lists must be flat`);
  else if (rowShape.filter((dim) => dim === -1).length > 1) faults.add(pointer, `${expected}lists leave more than one of its dimensions open`);
  const lengths = type?.match(/\[\d+\]/g)?.map((length) => Number(length.slice(1, -1))).toReversed();
  const wanted = [...(inBatch ? [1] : []), ...(nested ? rowShape : [width])];
  if (lengths?.length === depth && width !== undefined && lengths.some((length, index) => length !== wanted[index])) {
    faults.add(pointer, `${expected}column "${name}" has lists of [${lengths.join(', ')}]`);
  }
  return rowShape;
}

const wholeTypes = /^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER)$/;
const numberTypes = /^(U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|FLOAT|DOUBLE|DECIMAL\(.*\))$/;

/** Parquet columns have a type; text is tried row by row. */
function checkType({ dtype, name: input }: TensorSpec, { name, type }: ColumnRef, pointer: string, faults: FaultList): void {
  if (type === undefined) return;
  const element = type.replaceAll(/\[\d*\]/g, '');
  if (!acceptedTypes(dtype).test(element)) faults.add(pointer, `"${input}" is ${dtype}, and column "${name}" is ${element}`);
}

function acceptedTypes(dtype: Dtype): RegExp {
  switch (dtype) {
    case 'float32': case 'float64': case 'float16': return numberTypes;
    case 'bool': return /^BOOLEAN$/;
    case 'string': return /^VARCHAR$/;
    default: return wholeTypes;
  }
}

/** How each output stands in the file. */
export function mapOutputs({ outputs }: Signature, { vectors }: Pick<BackfillOutput, 'vectors'>, format: Format, faults: FaultList): readonly OutputPlan[] {
  return outputs.map((spec) => {
    const rowShape = rowShapeOf(spec);
    const width = widthOf(rowShape);
    const form = vectors ?? (format === 'csv' && width !== undefined ? 'expanded' : 'list');
    if (!hasRows(spec)) faults.add('#/output', `the output "${spec.name}" has shape ${printShape(spec.shape)}: it has no row for each row`);
    if (width === undefined && form === 'expanded') faults.add('#/output/vectors', `the output "${spec.name}" has shape ${printShape(spec.shape)}: its length is not known, so it cannot become columns`);
    return { name: spec.name, dtype: spec.dtype, rowShape, form: width === 1 ? 'value' : form };
  });
}

/** The names of an output's columns must differ, for DuckDB in more than their case. */
export function checkNames(names: readonly string[], faults: FaultList): void {
  const seen = new Set<string>();
  for (const name of names) {
    if (seen.has(name.toLowerCase())) faults.add('#/output', `two columns would be named "${name}": rename or leave out one`);
    seen.add(name.toLowerCase());
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
