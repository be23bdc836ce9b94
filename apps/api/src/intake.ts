// From a request's body to a prediction that is safe in Redis.
import { Coalescer } from '@millrace/batching';
import type { ModelRepository, ModelVersion } from '@millrace/models';
import type { Histogram } from '@millrace/process';
import {
  below, type Bundle, type BundledPrediction, bundleFormat, bundleLimits, detachPayload, FaultList, inlinePayloadBytes,
  MillraceError, newBundleId, predictionId, type PredictionRequest, priorities, readInputs, sizeBytes, type Tensor, type Tensors, toWireAll,
} from '@millrace/protocol';
import { asQueueUnavailable, type IdempotencyKeys, type Payload, type Producer, type Reservation, type Reserved } from '@millrace/queue';
import type { Waiters, Wake } from './waiters.ts';

/** A prediction that may be queued: it fits its model. */
export interface CheckedPrediction {
  readonly version: ModelVersion;
  readonly bundled: BundledPrediction;
  readonly priority: number;
  readonly payload: Uint8Array | undefined;
  readonly bytes: number;
}

/** What may travel together: one tenant's predictions for one version. One object for each, so that it can be a key. */
interface Destination {
  readonly tenant: string;
  readonly version: ModelVersion;
  readonly priority: number;
}

interface Queued {
  readonly checked: CheckedPrediction;
  readonly reservation: Reservation | undefined;
  /** Told before the bundle is sent, so that no wake-up comes too early. */
  readonly wake: Wake | undefined;
}

interface Place {
  readonly id: string;
  /** Where its idempotency key is tied to this id since an earlier submission: for how long. */
  readonly replayedAfterMs?: number;
}

export interface SubmitOptions {
  readonly tenant: string;
  /** How long to wait for the result; 0 does not wait. */
  readonly waitMs: number;
  readonly reservation?: Reservation | undefined;
}

export interface Submitted {
  readonly id: string;
  readonly checked: CheckedPrediction;
  /** True where an earlier submission with its idempotency key had made this prediction. */
  readonly replayed: boolean;
  /** The prediction as JSON text, where its result came within the wait. */
  readonly reply: string | undefined;
}

export interface IntakeOptions {
  readonly repository: ModelRepository;
  readonly producer: Producer;
  readonly waiters: Waiters;
  readonly idempotency: IdempotencyKeys;
  readonly bundleSize: Histogram;
  readonly maxRows: number;
  readonly maxWaiting: number;
  readonly bundlePredictions: number;
  readonly addsInFlight: number;
}

export class Intake {
  readonly #options: IntakeOptions;
  readonly #coalescer: Coalescer<Destination, Queued, Place>;
  readonly #destinations = new WeakMap<ModelVersion, Map<string, Destination>>();

  constructor(options: IntakeOptions) {
    this.#options = options;
    this.#coalescer = new Coalescer({
      send: (destination, items) => this.#send(destination, items),
      limits: { ...bundleLimits, predictions: options.bundlePredictions },
      sendsInFlight: options.addsInFlight,
      maxWaiting: options.maxWaiting,
    });
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

    const bytes = totalBytes(checked.inputs);
    const detached = bytes > inlinePayloadBytes ? detachPayload(checked.inputs) : undefined;
    const acceptedAt = Date.now();
    const bundled: BundledPrediction = {
      inputs: detached?.inputs ?? toWireAll(checked.inputs),
      rows: checked.rows,
      acceptedAt,
      ...(deadlineMs !== undefined && { deadlineAt: acceptedAt + deadlineMs }),
      ...(maxAttempts !== undefined && { maxAttempts }),
      ...((metadata ?? parameters) && { echo: { ...(metadata && { metadata }), ...(parameters && { parameters }) } }),
    };
    return { version, bundled, priority, payload: detached?.payload, bytes: detached ? 0 : bytes };
  }

  /**
   * Queues the prediction and, with `waitMs`, waits for its result; one that its idempotency key leads to is not waited
   * for. Rejects with `overloaded`, `queue-unavailable` or `idempotency-mismatch`.
   */
  async submit(checked: CheckedPrediction, options: SubmitOptions): Promise<Submitted> {
    const { waiters, idempotency } = this.#options;
    const { tenant, waitMs, reservation } = options;
    const { pool } = checked.version.manifest;
    if (waitMs > 0 && !waiters.listensTo(pool)) await waiters.listenTo(pool);
    const { place: { id, replayedAfterMs: ageMs }, reply } = await this.#enqueue(checked, options);
    if (ageMs === undefined) return { id, checked, reply, replayed: false };
    if (await idempotency.isAccepted({ id, ageMs }, tenant).catch(rethrowUnavailable)) return { id, checked, reply: undefined, replayed: true };
    // Whoever tied the key to that id died before Redis had the prediction.
    return this.submit(checked, { ...options, reservation: { ...reservation as Reservation, insteadOf: id } });
  }

  #enqueue(checked: CheckedPrediction, { tenant, waitMs, reservation }: SubmitOptions): Promise<{ place: Place; reply: string | undefined }> {
    const { waiters } = this.#options;
    return new Promise((resolve, reject) => {
      let place: Place | undefined;
      let timer: NodeJS.Timeout | undefined;
      const wake: Wake = (id, reply) => {
        clearTimeout(timer);
        resolve({ place: { id }, reply });
      };
      const giveUp = () => {
        timer = undefined;
        if (place === undefined) return;
        waiters.forget(place.id, wake);
        resolve({ place, reply: undefined });
      };
      if (waitMs > 0) timer = setTimeout(giveUp, waitMs);
      const { bytes, bundled: { rows } } = checked;
      this.#coalescer.submit(this.#destination(tenant, checked), { checked, reservation, wake: waitMs > 0 ? wake : undefined }, { bytes, rows }, {
        placed: (itsPlace) => {
          place = itsPlace;
          if (place.replayedAfterMs !== undefined) clearTimeout(timer);
          if (timer === undefined || place.replayedAfterMs !== undefined) giveUp();
        },
        failed: (error) => {
          clearTimeout(timer);
          reject(error);
        },
      });
    });
  }

  #destination(tenant: string, { version, priority }: CheckedPrediction): Destination {
    let ofVersion = this.#destinations.get(version);
    if (!ofVersion) this.#destinations.set(version, ofVersion = new Map());
    const key = `${priority}${tenant}`;
    let destination = ofVersion.get(key);
    if (!destination) ofVersion.set(key, destination = { tenant, version, priority });
    return destination;
  }

  /** Sends one bundle, without those of its items that idempotency keys lead elsewhere. */
  async #send({ tenant, version, priority }: Destination, items: readonly Queued[]): Promise<readonly (Place | MillraceError)[]> {
    const { producer, waiters, bundleSize } = this.#options;
    const { pool } = version.manifest;
    const bundleId = newBundleId(pool);
    const elsewhere = await this.#reserve(bundleId, tenant, items);
    const payloads: Payload[] = [];
    const predictions = items.map(({ checked: { bundled, payload }, wake }, index) => {
      if (elsewhere?.[index]) return null;
      if (wake) waiters.expect(predictionId(bundleId, index), tenant, wake);
      if (!payload) return bundled;
      payloads.push({ index, bytes: payload });
      return { ...bundled, detached: true };
    });
    const places = items.map((_, index) => elsewhere?.[index] ?? { id: predictionId(bundleId, index) });
    if (predictions.every((prediction) => prediction === null)) return places;
    const replyTo = items.some(({ wake }) => wake) ? waiters.node : undefined;
    const bundle: Bundle = { format: bundleFormat, tenant, model: version.id, lane: 'online', priority, ...(replyTo && { replyTo }), predictions };
    bundleSize.observe(items.length);
    try {
      await producer.add(pool, bundleId, bundle, payloads);
    } catch (error) {
      for (const [index, { wake }] of items.entries()) if (wake) waiters.forget(predictionId(bundleId, index), wake);
      throw error;
    }
    return places;
  }

  /** Ties the items' idempotency keys to their ids; for each that was tied to another before, that one. */
  async #reserve(bundleId: string, tenant: string, items: readonly Queued[]): Promise<(Place | MillraceError | undefined)[] | undefined> {
    if (items.every(({ reservation }) => reservation === undefined)) return undefined;
    const { idempotency } = this.#options;
    return Promise.all(items.map(async ({ reservation }, index) => {
      if (reservation) return elsewhereBy(await idempotency.reserve(tenant, reservation, predictionId(bundleId, index)).catch(rethrowUnavailable));
      return undefined;
    }));
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

function elsewhereBy(reserved: Reserved): Place | MillraceError | undefined {
  switch (reserved.kind) {
    case 'reserved': return undefined;
    case 'taken': return { id: reserved.id, replayedAfterMs: reserved.ageMs };
    case 'mismatch': return new MillraceError('idempotency-mismatch', 'This Idempotency-Key came before with another request');
    default: return reserved satisfies never;
  }
}

function rethrowUnavailable(error: unknown): never {
  throw asQueueUnavailable(error);
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
