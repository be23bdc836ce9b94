// The SELECT that turns rows of the input into one column for each input of the model.
//
// `strict` reads typed columns, as fast as DuckDB parses them, and throws at the first value that does not fit; `tolerant`
// reads text, taken apart row by row before, and gives NULL for such a value. DuckDB's rules are wider than the ones here, which
// `tolerant` has all of: what they could be about is not read by `strict` alone (`hasInfinity`, `hasUnderscores`, `boolSql`).
import type { Dtype } from '@millrace/protocol';
import { type ColumnRef, type InputPlan, type Plan, type TextRange, widthOf } from './plan.ts';
import { identifier, literal } from './sql.ts';

export type Mode = 'strict' | 'tolerant';

/** How the leaves of a column stand in DuckDB's memory. */
export type Leaf = 'exact' | 'whole-numbers' | 'half' | 'text';

export interface SelectedInput {
  readonly plan: InputPlan;
  readonly leaf: Leaf;
  readonly sql: string;
}

const duckTypes: Readonly<Record<Dtype, string>> = {
  float32: 'FLOAT', float64: 'DOUBLE', float16: 'FLOAT',
  int8: 'TINYINT', int16: 'SMALLINT', int32: 'INTEGER', int64: 'BIGINT',
  uint8: 'UTINYINT', uint16: 'USMALLINT', uint32: 'UINTEGER', uint64: 'UBIGINT',
  bool: 'BOOLEAN', string: 'VARCHAR',
};

/** DuckDB's type of one element in a part; a float16 is written as the float32 that it equals. */
export function duckTypeOf(dtype: Dtype): string {
  return duckTypes[dtype];
}

/**
 * Text that has a fraction is rounded by DuckDB's casts to integers, so whole numbers are read as doubles and checked one by one;
 * those of 64 bits, where a double may be too short, as text once a row was in doubt.
 */
function leafOf(dtype: Dtype, plan: Plan, mode: Mode): { readonly leaf: Leaf; readonly type: string } {
  switch (dtype) {
    case 'float16': return { leaf: 'half', type: 'FLOAT' };
    case 'string': return { leaf: 'text', type: 'VARCHAR' };
    case 'float32': case 'float64': case 'bool': return { leaf: 'exact', type: duckTypes[dtype] };
    case 'int64': case 'uint64':
      if (mode === 'tolerant') return { leaf: 'exact', type: duckTypes[dtype] };
      break;
    default:
  }
  return plan.source.format === 'parquet' ? { leaf: 'exact', type: duckTypes[dtype] } : { leaf: 'whole-numbers', type: 'DOUBLE' };
}

export function selectInputs(plan: Plan, mode: Mode): readonly SelectedInput[] {
  return plan.inputs.map((input) => {
    const { leaf, type } = leafOf(input.dtype, plan, mode);
    return { plan: input, leaf, sql: input.from === 'list' ? listSql(plan, input, type, mode) : columnsSql(plan, input, type, mode) };
  });
}

function columnsSql(plan: Plan, { dtype, columns }: InputPlan, type: string, mode: Mode): string {
  const values = columns.map((column) => elementSql(valueSql(plan, column, mode), dtype, type, plan, mode));
  return `[${values.join(', ')}]::${type}[${values.length}]`;
}

/** One value; NULL where it does not fit. */
function elementSql(value: string, dtype: Dtype, type: string, plan: Plan, mode: Mode): string {
  const cast = castSql(value, dtype, type, plan, mode);
  const isFloat = dtype === 'float32' || dtype === 'float64' || dtype === 'float16';
  return isFloat && plan.data.input.missing === 'nan' ? `CASE WHEN ${value} IS NULL THEN 'nan'::${type} ELSE ${cast} END` : cast;
}

function castSql(value: string, dtype: Dtype, type: string, plan: Plan, mode: Mode): string {
  if (plan.source.format === 'parquet') return mode === 'strict' ? `CAST(${value} AS ${type})` : `TRY_CAST(${value} AS ${type})`;
  switch (dtype) {
    case 'string': return plan.source.format === 'csv' ? `coalesce(${value}, '')` : value;
    case 'bool': return `CASE lower(trim(${value})) WHEN 'true' THEN true WHEN 't' THEN true WHEN '1' THEN true WHEN 'false' THEN false WHEN 'f' THEN false WHEN '0' THEN false END`;
    default:
      if (mode === 'strict') return `TRY_CAST(${value} AS ${type})`;
  }
  return `CASE WHEN NOT contains(${value}, '_') THEN ${type.endsWith('BIGINT') ? wideSql(value, type) : finiteSql(value, type)} END`;
}

/** What a double holds exactly may be spelled as any number, and more than that as digits. */
function wideSql(value: string, type: string): string {
  const double = `TRY_CAST(${value} AS DOUBLE)`;
  const isSafe = `abs(${double}) <= ${Number.MAX_SAFE_INTEGER} AND ${double} = trunc(${double})`;
  return `CASE WHEN regexp_full_match(${value}, '\\s*[+-]?[0-9]+\\s*') THEN TRY_CAST(${value} AS ${type}) WHEN ${isSafe} THEN TRY_CAST(${double} AS ${type}) END`;
}

/** DuckDB reads what is too large as infinity. */
function finiteSql(value: string, type: string): string {
  const number = `TRY_CAST(${value} AS ${type})`;
  return `CASE WHEN NOT isinf(${number}) OR ${value} ILIKE '%inf%' THEN ${number} END`;
}

/** A column that holds lists: its shape is checked by a cast to arrays of exactly these lengths. */
function listSql(plan: Plan, { dtype, columns, rowShape, depth, inBatch }: InputPlan, type: string, mode: Mode): string {
  const column = columns[0] as ColumnRef;
  const width = widthOf(rowShape);
  const shape = width === undefined ? '[]' : depth - Number(inBatch) === 1 ? `[${width}]` : rowShape.toReversed().map((dim) => `[${dim}]`).join('');
  const value = valueSql(plan, column, mode, depth);
  const needsText = plan.source.format !== 'parquet' && (dtype === 'bool' || (mode === 'tolerant' && dtype !== 'string'));
  const list = needsText
    ? transformSql(`TRY_CAST(${value} AS VARCHAR${'[]'.repeat(depth)})`, depth, (element) => castSql(element, dtype, type, plan, mode))
    : value;
  const cast = mode === 'strict' && plan.source.format !== 'csv' ? 'CAST' : 'TRY_CAST';
  return inBatch ? `${cast}(${list} AS ${type}${shape}[1])[1]` : `${cast}(${list} AS ${type}${shape})`;
}

function transformSql(list: string, depth: number, change: (element: string) => string): string {
  const element = `e${depth}`;
  return `list_transform(${list}, lambda ${element}: ${depth === 1 ? change(element) : transformSql(element, depth - 1, change)})`;
}

/** The value as it stands in the source: a column of `sourceSql`, or of the table of a tolerant reading. */
function valueSql({ source }: Plan, column: ColumnRef, mode: Mode, depth = 0): string {
  if (source.format === 'csv') return `c${column.index}`;
  if (source.format === 'parquet' || mode === 'strict') return column.path.map(identifier).join('.');
  const pointer = pointerTo(column);
  return depth === 0 ? `json_extract_string(j, ${pointer})` : `json_extract(j, ${pointer})`;
}

function pointerTo({ path }: ColumnRef): string {
  return literal(path.map((step) => `/${step.replaceAll('~', '~0').replaceAll('/', '~1')}`).join(''));
}

/** What of the input goes to the output: as the input has it. */
export function keptSql(plan: Plan, mode: Mode): readonly string[] {
  const refs = [...(plan.id ? [plan.id] : []), ...plan.carry];
  return refs.map((ref, index) => {
    const isId = plan.id !== undefined && index === 0;
    if (plan.source.format !== 'ndjson') return valueSql(plan, ref, mode);
    if (mode === 'tolerant') return valueSql(plan, ref, mode, isId ? 0 : 1);
    const value = valueSql(plan, ref, mode);
    return isId ? `json_extract_string(${value}, '$')` : value;
  });
}

type BlockSize = Pick<TextRange, 'sizeBytes' | 'longestRowBytes'>;

/** A FROM that reads a whole block, or the rows of a Parquet file, typed as the inputs want it. */
export function sourceSql(plan: Plan, path: string, block: BlockSize): string {
  return plan.source.format === 'csv' ? csvSql(plan, path, block) : ndjsonSql(plan, path, block);
}

export function parquetSql(path: string, offset: number, rows: number): string {
  return `(FROM read_parquet(${literal(path)}, file_row_number = true) WHERE file_row_number >= ${offset} AND file_row_number < ${offset + rows})`;
}

function csvSql(plan: Plan, path: string, block: BlockSize): string {
  const { csv, columns } = plan.source;
  const types = csvTypes(plan);
  const spec = columns.map((_name, index) => `c${index}: ${literal(types.get(index) ?? 'VARCHAR')}`);
  const options = [
    'auto_detect = false', 'header = false', `delim = ${literal(csv?.delimiter ?? ',')}`, `quote = ${literal(csv?.quote ?? '"')}`, `escape = ${literal(csv?.escape ?? '"')}`,
    bufferSql(block),
    `columns = {${spec.join(', ')}}`,
  ];
  return `read_csv(${literal(path)}, ${options.join(', ')})`;
}

/** One buffer holds the block: the default of 32 MB would be made and cleared for each. */
function bufferSql({ sizeBytes, longestRowBytes }: BlockSize): string {
  return `parallel = false, buffer_size = ${sizeBytes + longestRowBytes + 16}, max_line_size = ${longestRowBytes + 16}`;
}

/** A column that is asked for as two types is read as text. */
function csvTypes(plan: Plan): Map<number, string> {
  const types = new Map<number, string>();
  const want = (index: number, type: string): void => {
    types.set(index, types.has(index) && types.get(index) !== type ? 'VARCHAR' : type);
  };
  for (const { dtype, from, columns } of plan.inputs) {
    for (const { index = 0 } of columns) want(index, from === 'list' || dtype === 'bool' ? 'VARCHAR' : leafOf(dtype, plan, 'strict').type);
  }
  for (const { index = 0 } of [...(plan.id ? [plan.id] : []), ...plan.carry]) want(index, 'VARCHAR');
  return types;
}

interface Members {
  readonly [name: string]: string | Members;
}

function ndjsonSql(plan: Plan, path: string, block: BlockSize): string {
  const members: Record<string, unknown> = {};
  for (const { dtype, from, depth, columns } of plan.inputs) {
    const text = dtype === 'bool' || dtype === 'string';
    const type = `${text ? 'VARCHAR' : leafOf(dtype, plan, 'strict').type}${'[]'.repeat(from === 'list' ? depth : 0)}`;
    for (const column of columns) place(members, column.path, type);
  }
  for (const column of [...(plan.id ? [plan.id] : []), ...plan.carry]) place(members, column.path, 'JSON');
  // Lines as the one column of a CSV file, then parsed: takes 40 % of the time of `read_ndjson`. No JSON has the delimiter in it.
  const lines = `read_csv(${literal(path)}, auto_detect = false, header = false, delim = '\u0001', quote = '', escape = '', ${bufferSql(block)}, columns = {j: 'VARCHAR'})`;
  // What is left out is missed, and the block read row by row: a line that holds no object, for all of its members would be missing.
  return `(SELECT unnest(from_json(j, ${literal(JSON.stringify(structureOf(members as Members)))})) FROM ${lines} WHERE CASE WHEN ltrim(j) LIKE '{%' THEN NOT ${boolSql(plan)} END)`;
}

/** Whether true or false may stand for a number, as for DuckDB they do. Most lines have neither, and are not parsed for it. */
function boolSql({ inputs }: Plan): string {
  const pointers = inputs.filter(({ dtype }) => dtype !== 'bool' && dtype !== 'string').flatMap(({ columns }) => columns.map(pointerTo));
  if (pointers.length === 0) return 'false';
  return `CASE WHEN contains(j, 'true') OR contains(j, 'false') THEN regexp_matches(json_extract(j, [${pointers.join(', ')}])::VARCHAR, 'true|false') ELSE false END`;
}

/** A member that is asked for as two types cannot be read typed: the rows are then read one by one. */
function place(members: Record<string, unknown>, [step = '', ...rest]: readonly string[], type: string): void {
  if (rest.length > 0) place((members[step] ??= {}) as Record<string, unknown>, rest, type);
  else members[step] = members[step] === undefined || members[step] === type ? type : 'JSON';
}

/** As `from_json` takes it: lists are types in brackets. */
function structureOf(member: string | Members): unknown {
  if (typeof member === 'string') return member.endsWith('[]') ? [structureOf(member.slice(0, -2))] : member;
  return Object.fromEntries(Object.entries(member).map(([name, inner]) => [name, structureOf(inner)]));
}
