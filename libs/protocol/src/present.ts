// A prediction as the API shows it, made from what Redis knows of it.
import type { Echo, OutputFormat, TraceHeaders } from './bundle.ts';
import { MillraceError, problemOf } from './errors.ts';
import type { Prediction, PredictionSummary } from './http.ts';
import { toPlain } from './plain.ts';
import type { ResultRecord } from './result.ts';
import { fromWireAll, type Tensor, type Tensors } from './tensor.ts';

/** What is known of a prediction that has no result yet. */
export interface Pending {
  readonly state: 'queued' | 'running';
  readonly model: string;
  readonly version: number;
  readonly acceptedAt: number;
  /** When its present run began, where that is known. */
  readonly startedAt?: number;
  readonly attempts?: number;
  readonly echo?: Echo;
  readonly trace?: TraceHeaders;
}

export interface PresentOptions {
  /** The form of the outputs, where it differs from the one asked for at submission. */
  readonly format?: OutputFormat | undefined;
  /** The outputs decoded, where they are at hand. */
  readonly tensors?: Tensors | undefined;
}

/** How far it has come. */
export function standingOf(known: ResultRecord | Pending): Pick<Prediction, 'status' | 'attempts'> {
  if ('outcome' in known) return { status: known.outcome, attempts: known.attempts ?? 1 };
  return { status: known.state, attempts: known.attempts ?? 0 };
}

/** The prediction's resource. */
export function presentPrediction(id: string, known: ResultRecord | Pending, { format, tensors }: PresentOptions = {}): Prediction {
  const settled = 'outcome' in known ? known : undefined;
  const { parameters, metadata } = known.echo ?? {};
  const { status, attempts } = standingOf(known);
  return {
    id,
    object: 'prediction',
    status,
    model: known.model,
    version: known.version,
    created_at: isoTime(known.acceptedAt),
    started_at: known.startedAt === undefined ? null : isoTime(known.startedAt),
    completed_at: settled ? isoTime(settled.settledAt) : null,
    outputs: settled?.outputs ? presentOutputs(tensors ?? fromWireAll(settled.outputs), format ?? parameters?.format ?? 'nested', parameters?.outputs) : null,
    labels: settled?.labels ?? null,
    error: settled?.error ? problemOf(new MillraceError(settled.error.code, settled.error.detail)) : null,
    metrics: settled?.timing ? presentTiming(settled, settled.timing) : null,
    attempts,
    metadata: metadata ?? {},
    urls: { get: `/api/v1/predictions/${id}`, cancel: `/api/v1/predictions/${id}/cancel` },
  };
}

/** The prediction's entry in a list. */
export function presentSummary(id: string, known: Omit<ResultRecord, 'outputs' | 'labels'> | Pending): PredictionSummary {
  const { outputs: _outputs, labels: _labels, ...summary } = presentPrediction(id, known);
  return summary;
}

function presentOutputs(outputs: Tensors, format: OutputFormat, wanted: readonly string[] | undefined): Record<string, unknown> {
  const plain: Record<string, unknown> = {};
  for (const name in outputs) {
    if (!wanted || wanted.includes(name)) plain[name] = toPlain(outputs[name] as Tensor, format);
  }
  return plain;
}

function presentTiming(record: ResultRecord, timing: NonNullable<ResultRecord['timing']>): Prediction['metrics'] {
  return {
    queue_ms: timing.queueMs,
    batch_wait_ms: timing.batchWaitMs,
    inference_ms: timing.inferenceMs,
    total_ms: record.settledAt - record.acceptedAt,
    batch_rows: timing.batchRows,
  };
}

let second = -1;
let prefix = '';

/** ISO 8601, UTC. Thousands of times stand in the same second, so its text is kept: a sixth of the time of `toISOString`. */
function isoTime(ms: number): string {
  const itsSecond = Math.floor(ms / 1000);
  if (itsSecond !== second) {
    second = itsSecond;
    prefix = new Date(1000 * second).toISOString().slice(0, -4);
  }
  return `${prefix}${String(ms - 1000 * itsSecond).padStart(3, '0')}Z`;
}
