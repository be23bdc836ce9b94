// From a model's outputs to the names of classes.
import { numbersOf } from '@millrace/protocol';
import type { NumericTensor, Tensor, Tensors } from '@millrace/protocol';

/**
 * One label a row, or undefined where no output tells. The first output counts that is, in this order: integers of
 * shape `[rows]` or `[rows, 1]` that all are indices of labels; floats of shape `[rows, labels]`, whose largest
 * is taken; strings of shape `[rows]` or `[rows, 1]` that all are labels themselves.
 */
export function labelsOf(outputs: Tensors, labels: readonly string[], rows: number): string[] | undefined {
  if (labels.length === 0) return undefined;
  return firstOf(outputs, (output) => byIndex(output, labels, rows))
    ?? firstOf(outputs, (output) => byScore(output, labels, rows))
    ?? firstOf(outputs, (output) => byName(output, labels, rows));
}

function firstOf(outputs: Tensors, read: (output: Tensor) => string[] | undefined): string[] | undefined {
  for (const name in outputs) {
    const found = read(outputs[name] as Tensor);
    if (found) return found;
  }
  return undefined;
}

function byIndex(output: Tensor, labels: readonly string[], rows: number): string[] | undefined {
  if (!isInteger(output) || !isOneARow(output, rows)) return undefined;
  const indices = numbersOf(output);
  const found: string[] = [];
  for (let row = 0; row < rows; row += 1) {
    const label = labels[Number(indices[row])];
    if (label === undefined) return undefined;
    found.push(label);
  }
  return found;
}

function byScore(output: Tensor, labels: readonly string[], rows: number): string[] | undefined {
  const { dtype, shape } = output;
  if (dtype !== 'float32' && dtype !== 'float64' && dtype !== 'float16') return undefined;
  if (shape.length !== 2 || shape[0] !== rows || shape[1] !== labels.length) return undefined;
  const scores = numbersOf(output) as Float32Array;
  const found: string[] = [];
  for (let row = 0; row < rows; row += 1) {
    const label = labels[largest(scores, row * labels.length, labels.length)];
    if (label === undefined) return undefined;
    found.push(label);
  }
  return found;
}

/** The place of the first largest score; -1 where no score is above -∞ (or all are NaN). */
function largest(scores: Float32Array, start: number, count: number): number {
  let place = -1;
  let best = -Infinity;
  for (let index = 0; index < count; index += 1) {
    const score = scores[start + index] as number;
    if (score > best) [place, best] = [index, score];
  }
  return place;
}

function byName(output: Tensor, labels: readonly string[], rows: number): string[] | undefined {
  if (output.dtype !== 'string' || !isOneARow(output, rows)) return undefined;
  return output.data.every((text) => labels.includes(text)) ? [...output.data] : undefined;
}

function isInteger(output: Tensor): output is NumericTensor {
  return output.dtype.startsWith('int') || output.dtype.startsWith('uint');
}

function isOneARow({ shape }: Tensor, rows: number): boolean {
  return shape[0] === rows && (shape.length === 1 || (shape.length === 2 && shape[1] === 1));
}
