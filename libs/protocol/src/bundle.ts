// What travels as one BullMQ job: predictions of one tenant, model version and lane, or a chunk of a backfill.
import type { ChunkRef } from './backfill.ts';
import type { Lane } from './prediction.ts';
import type { WireTensors } from './tensor.ts';

/** A worker refuses a bundle of a format it does not know. */
export const bundleFormat = 1;

/** Bounds of one bundle (DESIGN: group commit). Larger ones gain little: at 64 the job's own cost is under one Redis command each. */
export const bundleLimits = { predictions: 64, bytes: 256 * 1024, rows: 4096 } as const;

/** Tensors above this are put beside the bundle as one binary Redis value. */
export const inlinePayloadBytes = 64 * 1024;

/** A model version as workers must find it: by name and number, and proven by the digest of its file. */
export interface ModelVersionId {
  readonly name: string;
  readonly version: number;
  /** SHA-256 of model.onnx, hex. */
  readonly digest: string;
}

/** What a model version is called where it is counted: `digits@3`. */
export function versionName({ name, version }: Pick<ModelVersionId, 'name' | 'version'>): string {
  return `${name}@${version}`;
}

export function parseVersionName(text: string): Pick<ModelVersionId, 'name' | 'version'> {
  const [name = '', version] = text.split('@');
  return { name, version: Number(version) };
}

/** W3C Trace Context as HTTP headers carry it (https://www.w3.org/TR/trace-context/): where to go on with a trace. */
export type TraceHeaders = Readonly<Record<string, string>>;

export interface BundledPrediction {
  readonly inputs: WireTensors;
  /** True where the tensors' bytes are a Redis value of their own, under the prediction's id. */
  readonly detached?: boolean;
  readonly rows: number;
  /** When the API accepted it, milliseconds since the epoch. */
  readonly acceptedAt: number;
  /** After this moment (milliseconds since the epoch) it expires unrun. */
  readonly deadlineAt?: number;
  /** Where it differs from the default. */
  readonly maxAttempts?: number;
  /** Echoed with the result: the caller's own data and the wanted form of the outputs. */
  readonly echo?: Echo;
  /** Who is told of its end without waiting for it. */
  readonly notify?: Notify;
  /** Where it is traced. */
  readonly trace?: TraceHeaders;
}

export const predictionEvents = ['prediction.started', 'prediction.completed', 'prediction.failed', 'prediction.canceled', 'prediction.expired'] as const;
export type PredictionEvent = (typeof predictionEvents)[number];

export const payloadKinds = ['thin', 'full'] as const;
/** What a webhook carries: `full` also has the outputs. */
export type PayloadKind = (typeof payloadKinds)[number];

/** A webhook that a request names. */
export interface Webhook<Event extends string> {
  readonly url: string;
  /** Those of `defaultEvents` where it does not say. */
  readonly events?: readonly Event[];
  readonly payload?: PayloadKind;
}

export interface Notify {
  readonly webhook?: Webhook<PredictionEvent>;
  readonly replyQueue?: string;
}

export interface Echo {
  readonly metadata?: Readonly<Record<string, string>>;
  readonly parameters?: PredictionParameters;
}

export interface PredictionParameters {
  readonly format?: OutputFormat;
  /** Names of the outputs to return; all by default. */
  readonly outputs?: readonly string[];
}

export const outputFormats = ['nested', 'flat', 'base64'] as const;
/** `nested` arrays, or tensor objects `{dtype, shape, data}` with `data` `flat` or `base64`. */
export type OutputFormat = (typeof outputFormats)[number];

/** What every job says. */
export interface Envelope {
  readonly format: typeof bundleFormat;
  readonly tenant: string;
  readonly model: ModelVersionId;
  readonly lane: Lane;
  /** Within the lane: lower ones are claimed and run first. */
  readonly priority: number;
}

/** A chunk of a backfill: its rows are read where it says, and not carried along. */
export interface ChunkJob extends Envelope {
  readonly chunk: ChunkRef;
  /** What may pass is not waited for any more. */
  readonly lastAttempt: boolean;
}

export interface Bundle extends Envelope {
  /** The API node to wake when predictions settle; absent where nobody waits. */
  readonly replyTo?: string;
  /** By index; null where a repeated submission turned out to be one that was accepted before. */
  readonly predictions: readonly (BundledPrediction | null)[];
  /** The one prediction here is tried again: its id and its result stay those of the bundle that it came in. */
  readonly retry?: { readonly bundleId: string; readonly index: number; readonly attempt: number };
}

/** The bundle's predictions by index in the bundle that their ids name. */
export function predictionsOf({ predictions, retry }: Bundle): ReadonlyMap<number, BundledPrediction> {
  const byIndex = new Map<number, BundledPrediction>();
  for (const [place, prediction] of predictions.entries()) if (prediction) byIndex.set(retry?.index ?? place, prediction);
  return byIndex;
}
