// First runs on zeros: they pay for the runtime's lazy set-up before a prediction does, and prove that rows can be stacked.
import { elementBytes, elementCount } from '@millrace/protocol';
import type { Dtype } from '@millrace/protocol';
import type { InferenceSession } from 'onnxruntime-node';
import { describeFailure } from './failure.ts';
import type { NamedTensor, Warning } from './thread-messages.ts';

export interface WarmUp {
  readonly inputs: InferenceSession['inputMetadata'];
  readonly run: (inputs: readonly NamedTensor[]) => Promise<readonly NamedTensor[]>;
  /** What the signature says. */
  readonly batched: boolean;
  readonly warnings: Warning[];
}

/** Lengths of dynamic inner dimensions: networks of convolutions refuse images of one pixel. */
const innerLengths = [1, 8, 32, 224];

/**
 * Runs one row, then two where the signature allows to stack. False where two rows do not give two rows in every
 * output. A model that takes no zeros at all is believed: each of its runs is checked in the same way.
 */
export async function provesStacking({ inputs, run, batched, warnings }: WarmUp): Promise<boolean> {
  const inner = await firstThatRuns(inputs, run);
  if (typeof inner !== 'number') {
    warnings.push({ message: 'model did not run in warm-up', detail: inner.reason });
    return batched;
  }
  if (!batched) return false;
  try {
    const outputs = await run(zeros(inputs, 2, inner));
    const odd = outputs.find(({ shape }) => shape[0] !== 2);
    if (!odd) return true;
    warnings.push({ message: notStacked, detail: `output "${odd.name}" has shape [${odd.shape.join(', ')}] for 2 rows` });
  } catch (error) {
    warnings.push({ message: notStacked, detail: describeFailure(error) });
  }
  return false;
}

export const notStacked = 'rows of this model cannot be stacked, its predictions run one by one';

async function firstThatRuns(inputs: WarmUp['inputs'], run: WarmUp['run']): Promise<number | { reason: string }> {
  let reason = '';
  for (const inner of innerLengths) {
    try {
      await run(zeros(inputs, 1, inner));
      return inner;
    } catch (error) {
      reason ||= describeFailure(error);
    }
    if (!hasDynamicInner(inputs)) break;
  }
  return { reason };
}

function hasDynamicInner(inputs: WarmUp['inputs']): boolean {
  return inputs.some((input) => input.isTensor && input.shape.slice(1).some((dim) => typeof dim === 'string'));
}

function zeros(inputs: WarmUp['inputs'], rows: number, inner: number): NamedTensor[] {
  return inputs.map((input) => {
    if (!input.isTensor) throw new Error(`input "${input.name}" is no tensor`);
    const shape = input.shape.map((dim, index) => (typeof dim === 'number' ? dim : index === 0 ? rows : inner));
    return zerosOf(input.name, input.type as Dtype, shape);
  });
}

function zerosOf(name: string, dtype: Dtype, shape: number[]): NamedTensor {
  const count = elementCount(shape);
  return dtype === 'string'
    ? { name, dtype, shape, data: Array.from({ length: count }, () => '') }
    : { name, dtype, shape, data: new Uint8Array(count * elementBytes(dtype)) };
}
