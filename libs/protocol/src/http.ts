// The public API's bodies. The same schemas validate requests, shape responses and make the OpenAPI document.
import Type, { type Static } from 'typebox';
import { outputFormats } from './bundle.ts';
import { errorCatalogue, type ErrorCode, type Problem } from './errors.ts';
import { PredictionWebhook, replyQueuePattern } from './http-webhooks.ts';
import { modelRefPattern } from './model-ref.ts';
import { attempts, priorities, states } from './prediction.ts';
import { closed, orNull } from './schema.ts';
import { dtypes } from './tensor.ts';

export const httpLimits = {
  /** Predictions in one `POST /predictions:batch`. */
  batch: 1000,
  /** The longest `Prefer: wait=` and `?wait=`, seconds. */
  waitSeconds: 60,
  /** Predictions in one page of a list, where none or too many are asked for. */
  pageSize: { default: 50, most: 1000 },
  metadataMembers: 32,
  metadataLength: 1024,
} as const;

export const PredictionRequest = Type.Object({
  model: Type.String({
    pattern: modelRefPattern,
    description: '`name` (its newest version), `name@version` or `name@alias`',
    examples: ['iris', 'iris@2', 'iris@champion'],
  }),
  inputs: Type.Unknown({
    description: 'A map of input name to nested arrays, or the bare array where the model has one input. In place of an array, '
      + 'a tensor object `{dtype, shape, data}` with `data` as flat values or as base64 of little-endian bytes. Shapes and dtypes are checked '
      + 'against the model’s signature (`GET /models/{name}`). Non-finite floats are the strings "NaN", "Infinity" and "-Infinity".',
    examples: [[[5.1, 3.5, 1.4, 0.2]]],
  }),
  parameters: Type.Optional(Type.Object({
    format: Type.Optional(Type.Enum([...outputFormats], {
      description: 'The form of the outputs: `nested` arrays (the default), or tensor objects with `flat` values or `base64` bytes',
    })),
    outputs: Type.Optional(Type.Array(Type.String(), { minItems: 1, uniqueItems: true, description: 'Names of the outputs to return; all by default' })),
  }, closed)),
  metadata: Type.Optional(Type.Record(Type.String(), Type.String({ maxLength: httpLimits.metadataLength }), {
    maxProperties: httpLimits.metadataMembers,
    description: 'Your own text fields; they come back with the prediction',
  })),
  deadline_ms: Type.Optional(Type.Integer({
    minimum: 1,
    maximum: 86_400_000,
    description: 'Milliseconds from acceptance after which the prediction expires if it has not started to run',
  })),
  priority: Type.Optional(Type.Integer({
    minimum: priorities.first,
    maximum: priorities.last,
    description: `What is queued with a lower number runs first; ${priorities.default} by default`,
  })),
  max_attempts: Type.Optional(Type.Integer({
    minimum: 1,
    maximum: attempts.most,
    description: `How often it is run at most where it fails with a retryable error; ${attempts.default} by default`,
  })),
  webhook: Type.Optional(PredictionWebhook),
  reply_queue: Type.Optional(Type.String({
    pattern: replyQueuePattern,
    description: 'Puts the result as a BullMQ job into the queue of this name, with the prefix `millrace:replies:{<tenant>}`, for a consumer of your own',
  })),
}, { ...closed, description: 'One prediction to make: any number of rows for one model' });
export type PredictionRequest = Static<typeof PredictionRequest>;

export const PredictionBatchRequest = Type.Object({
  requests: Type.Array(PredictionRequest, { minItems: 1, maxItems: httpLimits.batch }),
}, closed);
export type PredictionBatchRequest = Static<typeof PredictionBatchRequest>;

export const ProblemDocument = Type.Object({
  type: Type.String({ description: 'A path on this server that explains the problem', examples: ['/problems/invalid-prediction'] }),
  title: Type.String(),
  status: Type.Integer(),
  detail: Type.String(),
  instance: Type.Optional(Type.String({ description: 'The request’s id, as in the server’s logs' })),
  errors: Type.Optional(Type.Array(Type.Object({
    pointer: Type.String({ description: 'JSON pointer into the request body (RFC 6901 §6)', examples: ['#/inputs/features/0/2'] }),
    detail: Type.String(),
  }))),
}, { description: 'A problem document (RFC 9457), served as application/problem+json' });

const optionalProblem = Type.Unsafe<Problem | null>({ ...ProblemDocument, type: ['object', 'null'] });

export const Prediction = Type.Object({
  id: Type.String(),
  object: Type.Literal('prediction'),
  status: Type.Enum([...states]),
  model: Type.String(),
  version: Type.Integer(),
  created_at: Type.String({ format: 'date-time' }),
  started_at: orNull('string', 'When its rows first stood in a running micro-batch', { format: 'date-time' }),
  completed_at: orNull('string', 'When its result was written', { format: 'date-time' }),
  outputs: Type.Unknown({ description: 'A map of output name to the tensor in the wanted form; null until it has succeeded' }),
  labels: Type.Unsafe<readonly string[] | null>({ type: ['array', 'null'], items: { type: 'string' }, description: 'The class of each row, where the model has labels' }),
  error: optionalProblem,
  metrics: Type.Unsafe<PredictionMetrics | null>({
    type: ['object', 'null'],
    description: 'Where the time went, milliseconds; null unless it ran',
    properties: {
      queue_ms: { type: 'number' }, batch_wait_ms: { type: 'number' }, inference_ms: { type: 'number' },
      total_ms: { type: 'number' }, batch_rows: { type: 'integer', description: 'Rows of the micro-batch it ran in' },
    },
  }),
  attempts: Type.Integer({ description: 'How many attempts have ended, failed ones included' }),
  metadata: Type.Record(Type.String(), Type.String()),
  urls: Type.Object({ get: Type.String(), cancel: Type.String() }),
});
export type Prediction = Static<typeof Prediction>;

export interface PredictionMetrics {
  readonly queue_ms: number;
  readonly batch_wait_ms: number;
  readonly inference_ms: number;
  readonly total_ms: number;
  readonly batch_rows: number;
}

/** A prediction without what may be large. */
export const PredictionSummary = Type.Omit(Prediction, ['outputs', 'labels'], { description: 'A prediction without `outputs` and `labels`: `urls.get` leads to them' });
export type PredictionSummary = Static<typeof PredictionSummary>;

export const PredictionPage = Type.Object({
  predictions: Type.Array(PredictionSummary, { description: 'Newest first' }),
  next_page_token: Type.String({ description: 'For `page_token`; empty on the last page. A page may be short, even empty, and not be the last' }),
});
export type PredictionPage = Static<typeof PredictionPage>;

export const PredictionBatch = Type.Object({
  accepted: Type.Integer(),
  rejected: Type.Integer(),
  results: Type.Array(Type.Object({
    index: Type.Integer({ description: 'Its place in `requests`' }),
    prediction: Type.Optional(Prediction),
    error: Type.Optional(Type.Unsafe<Problem>(ProblemDocument)),
  })),
}, { description: 'One entry for each request, in order: its prediction, or why it was refused' });
export type PredictionBatch = Static<typeof PredictionBatch>;

const TensorSpec = Type.Object({
  name: Type.String(),
  dtype: Type.Enum([...dtypes]),
  shape: Type.Array(Type.Unsafe<number | string>({ type: ['integer', 'string'] }), {
    description: 'A number is a fixed length, a name a dynamic one, -1 a dynamic one without a name',
  }),
});

export const Model = Type.Object({
  name: Type.String(),
  pool: Type.String(),
  default_version: orNull('integer', 'The newest version that can run: what the bare name means'),
  aliases: Type.Record(Type.String(), Type.Integer()),
  labels: Type.Array(Type.String()),
  batching: Type.Object({ max_rows: Type.Integer(), max_delay_ms: Type.Number() }),
  versions: Type.Array(Type.Object({
    version: Type.Integer(),
    state: Type.Enum(['ready', 'refused']),
    reason: orNull('string', 'Why it was refused'),
    sha256: orNull('string', 'Digest of model.onnx'),
    size_bytes: orNull('integer', 'Size of model.onnx'),
    batched: Type.Unsafe<boolean | null>({ type: ['boolean', 'null'], description: 'Whether rows of several predictions share a run' }),
    inputs: Type.Array(TensorSpec),
    outputs: Type.Array(TensorSpec),
  })),
});
export type Model = Static<typeof Model>;

export const ModelList = Type.Object({ models: Type.Array(Model) });
export type ModelList = Static<typeof ModelList>;

export const Health = Type.Object({
  status: Type.Enum(['ok', 'unavailable']),
  checks: Type.Record(Type.String(), Type.Object({ ok: Type.Boolean(), detail: Type.Optional(Type.String()) })),
});
export type Health = Static<typeof Health>;

/** The responses of a route that may fail with these codes, as Fastify takes them. */
export function problemResponses(...codes: ErrorCode[]): Record<number, object> {
  const response = { description: 'A problem document', content: { 'application/problem+json': { schema: ProblemDocument } } };
  return Object.fromEntries(codes.map((code) => [errorCatalogue[code].status, response]));
}
