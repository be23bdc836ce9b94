// From a request's body to a prediction that fits its model.
import type { ModelRepository, ModelVersion } from '@millrace/models';
import {
  below, type BundledPrediction, detachPayload, FaultList, inlinePayloadBytes, MillraceError, type Notify, type PredictionRequest, priorities,
  readInputs, sizeBytes, type Tensor, type Tensors, toWireAll,
} from '@millrace/protocol';
import type { Targets } from './targets.ts';

/** A prediction that may be queued: it fits its model. */
export interface CheckedPrediction {
  readonly version: ModelVersion;
  readonly bundled: BundledPrediction;
  readonly priority: number;
  readonly payload: Uint8Array | undefined;
  /** What of it travels inside the bundle. */
  readonly bytes: number;
  readonly deadlineMs: number | undefined;
}

export interface CheckerOptions {
  readonly repository: ModelRepository;
  readonly targets: Targets;
  readonly maxRows: number;
}

export class Checker {
  readonly #options: CheckerOptions;

  constructor(options: CheckerOptions) {
    this.#options = options;
  }

  /** Adds a fault where the request's webhook may not be called. To be called before `check`, and only where there is one: it may have to look a name up. */
  async checkTarget({ webhook }: Partial<PredictionRequest>, faults: FaultList, pointer = '#'): Promise<void> {
    await this.#options.targets.check(webhook?.url, faults, `${pointer}/webhook/url`);
  }

  /**
   * Checks a request that has the schema's form, or as much of it as is left of one that has not (`faults` has what was
   * found before). Throws `unknown-model`, `payload-too-large` or `invalid-prediction` with every fault.
   */
  check(request: Partial<PredictionRequest>, faults: FaultList, pointer = '#'): CheckedPrediction {
    const { model, inputs, parameters, metadata, deadline_ms: deadlineMs, max_attempts: maxAttempts, priority = priorities.default } = request;
    const version = this.#resolve(model, faults, pointer);
    const checked = inputs === undefined ? undefined : readInputs(version, inputs, below(pointer, 'inputs'), faults);
    checkWantedOutputs(version, parameters?.outputs, below(pointer, 'parameters'), faults);
    if (!checked || faults.faults.length > 0) throw invalid(faults, version);
    const { maxRows } = this.#options;
    if (checked.rows > maxRows) {
      throw new MillraceError('payload-too-large', `A prediction may hold ${maxRows} rows, this one has ${checked.rows}; send it in parts`);
    }

    const notify = notifyOf(request);
    const { numberBytes, textBytes } = sizesOf(checked.inputs);
    const detached = numberBytes > inlinePayloadBytes ? detachPayload(checked.inputs) : undefined;
    const acceptedAt = Date.now();
    const bundled: BundledPrediction = {
      inputs: detached?.inputs ?? toWireAll(checked.inputs),
      rows: checked.rows,
      acceptedAt,
      ...(deadlineMs !== undefined && { deadlineAt: acceptedAt + deadlineMs }),
      ...(maxAttempts !== undefined && { maxAttempts }),
      ...((metadata ?? parameters) && { echo: { ...(metadata && { metadata }), ...(parameters && { parameters }) } }),
      ...(notify && { notify }),
    };
    const bytes = (detached ? 0 : numberBytes) + textBytes + metadataBytes(metadata) + notifyBytes(notify);
    return { version, bundled, priority, payload: detached?.payload, bytes, deadlineMs };
  }

  #resolve(model: unknown, faults: FaultList, pointer: string): ModelVersion {
    if (typeof model !== 'string') throw invalid(faults);
    try {
      return this.#options.repository.resolveText(model);
    } catch (error) {
      if (!(error instanceof MillraceError)) throw error;
      faults.add(below(pointer, 'model'), error.message);
      throw new MillraceError(error.code, error.message, { faults: faults.faults });
    }
  }
}

/** Undefined where nobody is to be told. */
function notifyOf({ webhook, reply_queue: replyQueue }: Partial<PredictionRequest>): Notify | undefined {
  if (webhook === undefined && replyQueue === undefined) return undefined;
  return { ...(webhook && { webhook }), ...(replyQueue !== undefined && { replyQueue }) };
}

function notifyBytes({ webhook, replyQueue }: Notify = {}): number {
  return (webhook?.url.length ?? 0) + (replyQueue?.length ?? 0);
}

function metadataBytes(metadata: PredictionRequest['metadata']): number {
  let sum = 0;
  for (const name in metadata) sum += name.length + (metadata[name] as string).length;
  return sum;
}

/** Numbers may travel beside the bundle, texts are always in it. */
function sizesOf(tensors: Tensors): { numberBytes: number; textBytes: number } {
  const sizes = { numberBytes: 0, textBytes: 0 };
  for (const name in tensors) {
    const tensor = tensors[name] as Tensor;
    sizes[tensor.dtype === 'string' ? 'textBytes' : 'numberBytes'] += sizeBytes(tensor);
  }
  return sizes;
}

function checkWantedOutputs(version: ModelVersion, wanted: readonly string[] | undefined, pointer: string, faults: FaultList): void {
  if (!Array.isArray(wanted)) return;
  const names = version.signature.outputs.map(({ name }) => name);
  for (const [index, name] of wanted.entries()) {
    if (!names.includes(name)) faults.add(below(below(pointer, 'outputs'), index), `unknown output: the model has ${names.join(', ')}`);
  }
}

function invalid({ faults }: FaultList, version?: ModelVersion): MillraceError {
  const of = version ? ` for ${version.id.name}@${version.id.version}` : '';
  const count = faults.length === 1 ? 'one fault' : `${faults.length} faults`;
  return new MillraceError('invalid-prediction', `The prediction has ${count}${of}`, { faults });
}
