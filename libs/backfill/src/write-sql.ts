// The SELECT and the options that write a part: the id or the row's number, what is carried, the outputs, the label.
import type { Format } from './job.ts';
import { type OutputPlan, type Plan, widthOf } from './plan.ts';
import { identifier } from './sql.ts';

export interface PartContent {
  readonly firstRow: number;
  /** Whether the outcomes stand in the order of the rows already. */
  readonly ordered: boolean;
  readonly finite: boolean;
}

/** The output's columns, in order. Where there is no id column, the row's number stands first. */
export function outputColumns(plan: Pick<Plan, 'id' | 'carry' | 'outputs' | 'labels'>): readonly string[] {
  const outputs = plan.outputs.flatMap(({ name, form, rowShape }) =>
    form === 'expanded' ? Array.from({ length: widthOf(rowShape) ?? 0 }, (_, index) => `${name}_${index}`) : [name]);
  const named = [plan.id?.name ?? 'row', ...plan.carry.map(({ name }) => name), ...outputs];
  // Many a model calls its classes' numbers "label", and many an input the truth.
  const label = named.some((name) => name.toLowerCase() === 'label') ? 'label_name' : 'label';
  return plan.labels ? [...named, label] : named;
}

export function partSelect(plan: Plan, { firstRow, ordered, finite }: PartContent): string {
  const kept = [...(plan.id ? [plan.id] : []), ...plan.carry].map((_ref, index) => keptSql(plan, index));
  const values = [
    ...(plan.id ? [] : [`(${firstRow} + position)::BIGINT`]),
    ...kept,
    ...plan.outputs.flatMap((output, index) => outputSql(plan, output, `o${index}`, finite)),
    ...(plan.labels ? ['label'] : []),
  ];
  const names = outputColumns(plan);
  const join = kept.length > 0 ? ' JOIN __kept ON __kept.rowid = position' : '';
  const order = ordered && kept.length === 0 ? '' : ' ORDER BY position';
  return `SELECT ${values.map((value, index) => `${value} AS ${identifier(names[index] as string)}`).join(', ')} FROM __outcome${join}${order}`;
}

/** In NDJSON carried members stay what they were; elsewhere strings lose their quotes. */
function keptSql({ source, outputFormat, id }: Plan, index: number): string {
  const isJson = source.format === 'ndjson' && !(id && index === 0);
  return isJson && outputFormat !== 'ndjson' ? `json_extract_string(k${index}, '$')` : `k${index}`;
}

function outputSql(plan: Plan, { dtype, form, rowShape }: OutputPlan, column: string, finite: boolean): string[] {
  const isFloat = dtype === 'float32' || dtype === 'float64' || dtype === 'float16';
  const worded = plan.outputFormat === 'ndjson' && isFloat && !finite;
  if (form === 'value') return [worded ? wordSql(column) : column];
  if (form === 'expanded') {
    return Array.from({ length: widthOf(rowShape) ?? 0 }, (_, index) => (worded ? wordSql(`${column}[${index + 1}]`) : `${column}[${index + 1}]`));
  }
  return [worded ? transformSql(column, widthOf(rowShape) === undefined ? 1 : rowShape.length) : column];
}

/** NaN and the infinities as strings, as the API writes them. */
function wordSql(value: string): string {
  return `CASE WHEN isnan(${value}) THEN to_json('NaN') WHEN isinf(${value}) THEN to_json(CASE WHEN ${value} > 0 THEN 'Infinity' ELSE '-Infinity' END) ELSE to_json(${value}) END`;
}

function transformSql(list: string, depth: number): string {
  const element = `e${depth}`;
  return `list_transform(${list}, lambda ${element}: ${depth === 1 ? wordSql(element) : transformSql(element, depth - 1)})`;
}

export function partOptions(format: Format): string {
  switch (format) {
    case 'csv': return 'FORMAT csv, HEADER false';
    case 'ndjson': return 'FORMAT json';
    // Read once more, when the output is assembled.
    case 'parquet': return 'FORMAT parquet, COMPRESSION lz4_raw';
  }
}
