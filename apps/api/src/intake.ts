// From a request's body to a prediction that is safe in Redis.
import { Coalescer } from '@millrace/batching';
import type { ModelRepository, ModelVersion } from '@millrace/models';
import type { Histogram } from '@millrace/process';
import {
  below, type Bundle, type BundledPrediction, bundleFormat, bundleLimits, detachPayload, FaultList, inlinePayloadBytes,
  MillraceError, newBundleId, predictionId, type PredictionRequest, readInputs, sizeBytes, type Tensor, type Tensors, toWireAll,
} from '@millrace/protocol';
import type { Admission, Payload, Producer } from '@millrace/queue';
import type { Waiters, Wake } from './waiters.ts';

/** A prediction that may be queued: it fits its model. */
export interface CheckedPrediction {
  readonly version: ModelVersion;
  readonly bundled: BundledPrediction;
  readonly payload: Uint8Array | undefined;
  /** What of it travels inside the bundle. */
  readonly bytes: number;
  readonly deadlineMs: number | undefined;
}

/** What may travel together: one tenant's predictions for one version. One object for each, so that it can be a key. */
interface Destination {
  readonly tenant: string;
  readonly version: ModelVersion;
}

interface Queued {
  readonly checked: CheckedPrediction;
  /** Told before the bundle is sent, so that no wake-up comes too early. */
  readonly wake: Wake | undefined;
}

export interface Submitted {
  readonly id: string;
  readonly checked: CheckedPrediction;
  /** The prediction as JSON text, where its result came within the wait. */
  readonly reply: string | undefined;
}

export interface IntakeOptions {
  readonly repository: ModelRepository;
  readonly producer: Producer;
  readonly admission: Admission;
  readonly waiters: Waiters;
  readonly bundleSize: Histogram;
  readonly maxRows: number;
  readonly maxWaiting: number;
  readonly maxWaitingBytes: number;
  readonly bundlePredictions: number;
  readonly addsInFlight: number;
}

export class Intake {
  readonly #options: IntakeOptions;
  readonly #coalescer: Coalescer<Destination, Queued>;
  readonly #destinations = new WeakMap<ModelVersion, Map<string, Destination>>();

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#coalescer = new Coalescer({
      send: (destination, items) => this.#send(destination, items),
      limits: { ...bundleLimits, predictions: options.bundlePredictions },
      sendsInFlight: options.addsInFlight,
      maxWaiting: options.maxWaiting,
      maxWaitingBytes: options.maxWaitingBytes,
    });
  }

  /**
   * Checks a request that has the schema's form, or as much of it as is left of one that has not (`faults` has what was
   * found before). Throws `unknown-model`, `payload-too-large` or `invalid-prediction` with every fault.
   */
  check(request: Partial<PredictionRequest>, faults: FaultList, pointer = '#'): CheckedPrediction {
    const { model, inputs, parameters, metadata, deadline_ms: deadlineMs } = request;
    const version = this.#resolve(model, faults, pointer);
    const checked = inputs === undefined ? undefined : readInputs(version, inputs, below(pointer, 'inputs'), faults);
    checkWantedOutputs(version, parameters?.outputs, below(pointer, 'parameters'), faults);
    if (!checked || faults.faults.length > 0) throw invalid(faults, version);
    const { maxRows } = this.#options;
    if (checked.rows > maxRows) {
      throw new MillraceError('payload-too-large', `A prediction may hold ${maxRows} rows, this one has ${checked.rows}; send it in parts`);
    }

    const bytes = totalBytes(checked.inputs);
    const detached = bytes > inlinePayloadBytes ? detachPayload(checked.inputs) : undefined;
    const acceptedAt = Date.now();
    const bundled: BundledPrediction = {
      inputs: detached?.inputs ?? toWireAll(checked.inputs),
      rows: checked.rows,
      acceptedAt,
      ...(deadlineMs !== undefined && { deadlineAt: acceptedAt + deadlineMs }),
      ...((metadata ?? parameters) && { echo: { ...(metadata && { metadata }), ...(parameters && { parameters }) } }),
    };
    return { version, bundled, payload: detached?.payload, bytes: (detached ? 0 : bytes) + metadataBytes(metadata), deadlineMs };
  }

  /** Queues the prediction and, with `waitMs`, waits for its result. Rejects where admission refuses it, or with `overloaded` or `queue-unavailable`. */
  async submit(checked: CheckedPrediction, tenant: string, waitMs: number): Promise<Submitted> {
    const { waiters, admission } = this.#options;
    const { pool } = checked.version.manifest;
    const { bytes, bundled: { rows }, version, payload, deadlineMs } = checked;
    const besideBytes = payload?.byteLength ?? 0;
    admission.admit({ pool, lane: 'online', tenant, rows, bytes: bytes * base64Growth + besideBytes + overheadBytes, deadlineMs });
    if (waitMs > 0 && !waiters.listensTo(pool)) await waiters.listenTo(pool);
    return new Promise((resolve, reject) => {
      let id: string | undefined;
      let timer: NodeJS.Timeout | undefined;
      const wake: Wake = (itsId, reply) => {
        clearTimeout(timer);
        resolve({ id: itsId, checked, reply });
      };
      const giveUp = () => {
        timer = undefined;
        if (id === undefined) return;
        waiters.forget(id, wake);
        wake(id, undefined);
      };
      if (waitMs > 0) timer = setTimeout(giveUp, waitMs);
      this.#coalescer.submit(this.#destination(tenant, version), { checked, wake: waitMs > 0 ? wake : undefined }, { bytes, besideBytes, rows }, {
        placed: ({ bundleId, index }) => {
          id = predictionId(bundleId, index);
          if (timer === undefined) giveUp();
        },
        failed: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  #destination(tenant: string, version: ModelVersion): Destination {
    let ofVersion = this.#destinations.get(version);
    if (!ofVersion) this.#destinations.set(version, ofVersion = new Map());
    let destination = ofVersion.get(tenant);
    if (!destination) ofVersion.set(tenant, destination = { tenant, version });
    return destination;
  }

  async #send({ tenant, version }: Destination, items: readonly Queued[]): Promise<string> {
    const { producer, waiters, bundleSize } = this.#options;
    const { pool } = version.manifest;
    const bundleId = newBundleId(pool);
    const payloads: Payload[] = [];
    const predictions = items.map(({ checked: { bundled, payload }, wake }, index) => {
      if (wake) waiters.expect(predictionId(bundleId, index), tenant, wake);
      if (!payload) return bundled;
      payloads.push({ index, bytes: payload });
      return { ...bundled, detached: true };
    });
    const replyTo = items.some(({ wake }) => wake) ? waiters.node : undefined;
    const bundle: Bundle = { format: bundleFormat, tenant, model: version.id, lane: 'online', ...(replyTo && { replyTo }), predictions };
    bundleSize.observe(items.length);
    try {
      await producer.add(pool, bundleId, bundle, payloads);
    } catch (error) {
      for (const [index, { wake }] of items.entries()) if (wake) waiters.forget(predictionId(bundleId, index), wake);
      throw error;
    }
    return bundleId;
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

/** What a queued prediction takes in Redis beside its inputs (docs/05-operations.md). */
const overheadBytes = 200;
const base64Growth = 4 / 3;

function metadataBytes(metadata: PredictionRequest['metadata']): number {
  let sum = 0;
  for (const name in metadata) sum += name.length + (metadata[name] as string).length;
  return sum;
}

function totalBytes(tensors: Tensors): number {
  let sum = 0;
  for (const name in tensors) sum += sizeBytes(tensors[name] as Tensor);
  return sum;
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
