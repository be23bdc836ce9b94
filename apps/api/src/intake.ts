// From a prediction that fits its model to one that is safe in Redis.
import { Coalescer } from '@millrace/batching';
import type { ModelVersion } from '@millrace/models';
import type { Histogram, Span, Tracer } from '@millrace/process';
import { type Bundle, bundleFormat, bundleLimits, MillraceError, newBundleId, predictionId } from '@millrace/protocol';
import { type Admission, type IdempotencyKeys, type Payload, type Producer, rethrowUnavailable, type Reservation, type Reserved } from '@millrace/queue';
import type { CheckedPrediction } from './check.ts';
import type { Waiters, Wake } from './waiters.ts';

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
  readonly span: Span | undefined;
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
  /** The request's, where it is traced. */
  readonly span?: Span | undefined;
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
  readonly producer: Producer;
  readonly admission: Admission;
  readonly waiters: Waiters;
  readonly idempotency: IdempotencyKeys;
  readonly bundleSize: Histogram;
  readonly tracer: Tracer | undefined;
  readonly maxWaiting: number;
  readonly maxWaitingBytes: number;
  readonly bundlePredictions: number;
  readonly addsInFlight: number;
}

/** What a queued prediction takes in Redis beside its inputs (docs/05-operations.md). */
const overheadBytes = 200;
const base64Growth = 4 / 3;

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
      maxWaitingBytes: options.maxWaitingBytes,
    });
  }

  /**
   * Queues the prediction and, with `waitMs`, waits for its result; one that its idempotency key leads to is not waited
   * for. Rejects where admission refuses it, or with `overloaded`, `queue-unavailable` or `idempotency-mismatch`.
   */
  async submit(checked: CheckedPrediction, options: SubmitOptions): Promise<Submitted> {
    const { waiters, admission, idempotency } = this.#options;
    const { tenant, waitMs, reservation } = options;
    const { pool } = checked.version.manifest;
    const { bytes, bundled: { rows }, payload, deadlineMs } = checked;
    const besideBytes = payload?.byteLength ?? 0;
    admission.admit({ pool, lane: 'online', tenant, rows, bytes: bytes * base64Growth + besideBytes + overheadBytes, deadlineMs });
    if (waitMs > 0 && !waiters.listensTo(pool)) await waiters.listenTo(pool);
    const { place: { id, replayedAfterMs: ageMs }, reply } = await this.#enqueue(checked, options);
    if (ageMs === undefined) return { id, checked, reply, replayed: false };
    if (await idempotency.isAccepted({ id, ageMs }, tenant).catch(rethrowUnavailable)) return { id, checked, reply: undefined, replayed: true };
    // Whoever tied the key to that id died before Redis had the prediction.
    return this.submit(checked, { ...options, reservation: { ...reservation as Reservation, insteadOf: id } });
  }

  #enqueue(checked: CheckedPrediction, { tenant, waitMs, reservation, span: parent }: SubmitOptions): Promise<{ place: Place; reply: string | undefined }> {
    const { waiters } = this.#options;
    const span = parent && this.#trace(parent, checked);
    return new Promise((resolve, reject) => {
      let place: Place | undefined;
      let timer: NodeJS.Timeout | undefined;
      const wake: Wake = (id, reply) => {
        if (reply === undefined) return giveUp();
        clearTimeout(timer);
        resolve({ place: { id }, reply });
      };
      // Not before its bundle is safe: until then there is nothing to answer.
      const giveUp = () => {
        clearTimeout(timer);
        timer = undefined;
        if (place === undefined) return;
        waiters.forget(place.id, wake);
        resolve({ place, reply: undefined });
      };
      if (waitMs > 0) timer = setTimeout(giveUp, waitMs);
      const { bytes, payload, bundled: { rows } } = checked;
      const weight = { bytes, besideBytes: payload?.byteLength ?? 0, rows };
      this.#coalescer.submit(this.#destination(tenant, checked), { checked, reservation, wake: waitMs > 0 ? wake : undefined, span }, weight, {
        placed: (itsPlace) => {
          place = itsPlace;
          span?.end({ attributes: { 'messaging.message.id': place.id } });
          if (timer === undefined || place.replayedAfterMs !== undefined) giveUp();
        },
        failed: (error) => {
          clearTimeout(timer);
          span?.end({ error: error instanceof MillraceError ? error.code : 'internal' });
          reject(error);
        },
      });
    });
  }

  /** Until its bundle is safe; what becomes of it afterwards goes on from here. */
  #trace({ headers }: Span, { version: { id: { name, version }, manifest: { pool } }, bundled: { rows } }: CheckedPrediction): Span | undefined {
    const queue = `${pool}/online`;
    return this.#options.tracer?.start(`send ${queue}`, {
      kind: 'producer', parent: headers,
      attributes: {
        'messaging.system': 'bullmq', 'messaging.destination.name': queue, 'messaging.operation.name': 'send', 'messaging.operation.type': 'send',
        'millrace.model.name': name, 'millrace.model.version': version, 'millrace.rows': rows,
      },
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
    const predictions = items.map(({ checked: { bundled, payload }, wake, span }, index) => {
      if (elsewhere?.[index]) return null;
      if (wake) waiters.expect(predictionId(bundleId, index), tenant, wake);
      const prediction = span ? { ...bundled, trace: span.headers } : bundled;
      if (!payload) return prediction;
      payloads.push({ index, bytes: payload });
      return { ...prediction, detached: true };
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
}

function elsewhereBy(reserved: Reserved): Place | MillraceError | undefined {
  switch (reserved.kind) {
    case 'reserved': return undefined;
    case 'taken': return { id: reserved.id, replayedAfterMs: reserved.ageMs };
    case 'mismatch': return new MillraceError('idempotency-mismatch', 'This Idempotency-Key came before with another request');
    default: return reserved satisfies never;
  }
}
