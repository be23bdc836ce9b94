// Why a row cannot be taken, in words for the person who wrote it.
import { describe, expectations } from '@millrace/protocol';
import type { ColumnRef, InputPlan } from './plan.ts';

/** What is wrong with the values of one input: at `element`, or with all of them where it is -1. `valueOf` gives what stands in a column. */
export function refusalOf({ dtype, from, columns, rowShape, inBatch }: InputPlan, element: number, valueOf: (column: ColumnRef) => unknown): string {
  const column = columns[from === 'columns' && element > 0 ? element : 0] as ColumnRef;
  const value = valueOf(column);
  const found = value === undefined || value === null || value === '' ? 'nothing' : describe(value);
  if (from === 'columns') return `column "${column.name}": expected ${expectations[dtype]}, got ${found}`;
  const shape = [...(inBatch ? [1] : []), ...rowShape].map((dim) => (dim === -1 ? 'any' : dim)).join(', ');
  return element === -1
    ? `column "${column.name}": expected a list of shape [${shape}] of ${dtype}, got ${found}`
    : `column "${column.name}": expected ${expectations[dtype]} in every element, and the one at ${element} is not`;
}
