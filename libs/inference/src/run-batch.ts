// Runs a micro-batch; where it fails, halves it until the culprits stand alone.
import { describeFailure, failureCode } from './failure.ts';
import type { Session } from './session.ts';
import { sliceRows } from './stack.ts';
import type { NamedTensor, RunReply, RunRequest, Segment, Warning } from './thread-messages.ts';
import { notStacked } from './warm-up.ts';

type Batch = Pick<RunRequest, 'rows' | 'inputs'>;

/**
 * Runs every item of the batch, in as few runs as the session and its failures allow: 1 where all goes well, and for
 * one culprit among n at most 2·log2(n) more.
 */
export async function runBatch(session: Pick<Session, 'batched' | 'run'>, batch: Batch): Promise<RunReply> {
  const wasBatched = session.batched;
  const { rows } = batch;
  const starts = [0];
  for (const [index, count] of rows.entries()) starts.push((starts[index] as number) + count);
  const warnings: Warning[] = [];

  const attempt = async (from: number, to: number): Promise<Segment> => {
    const [fromRow, toRow] = [starts[from] as number, starts[to] as number];
    const inputs = to - from === rows.length ? batch.inputs : sliceRows(batch.inputs, fromRow, toRow);
    const startedAt = performance.now();
    const outputs = await session.run(inputs);
    return { ok: true, items: to - from, rows: toRow - fromRow, inferenceMs: performance.now() - startedAt, outputs };
  };

  const alone = async (at: number): Promise<Segment> => {
    try {
      return await attempt(at, at + 1);
    } catch (error) {
      return { ok: false, items: 1, code: failureCode(error), detail: describeFailure(error) };
    }
  };

  const bisect = async (from: number, to: number): Promise<Segment[]> => {
    if (to - from === 1) return [await alone(from)];
    if (session.batched) {
      try {
        const segment = await attempt(from, to);
        const odd = oddOutput(segment);
        if (!odd) return [segment];
        session.batched = false;
        warnings.push({ message: notStacked, detail: odd });
      } catch {
        // The halves find out who it was, and why.
      }
    }
    const middle = (from + to) >>> 1;
    return [...await bisect(from, middle), ...await bisect(middle, to)];
  };

  const segments = await bisect(0, rows.length);
  if (wasBatched && session.batched && segments.length > 1 && segments.every(({ ok, items }) => ok && items === 1)) {
    session.batched = false;
    warnings.push({ message: notStacked, detail: 'every item of a failed run succeeds alone' });
  }
  return { segments, warnings };
}

/** What is wrong with an output whose first dimension is not the rows that went in; undefined where all are right. */
function oddOutput(segment: Segment): string | undefined {
  if (!segment.ok) return undefined;
  const odd = segment.outputs.find(({ shape }) => shape[0] !== segment.rows);
  return odd && `output "${odd.name}" has shape [${odd.shape.join(', ')}] for ${segment.rows} rows`;
}

/** The buffers that go back with a reply. */
export function buffersOf({ segments }: RunReply): ArrayBuffer[] {
  const outputs = segments.flatMap((segment): readonly NamedTensor[] => (segment.ok ? segment.outputs : []));
  return outputs.flatMap(({ dtype, data }) => (dtype === 'string' ? [] : [data.buffer as ArrayBuffer]));
}
