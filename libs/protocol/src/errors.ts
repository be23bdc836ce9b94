// The one catalogue of expected failures: what a code means, which HTTP status it becomes, whether trying again helps.
// A problem document (RFC 9457) is made from it by the API; a failed prediction carries the same codes in `error`.
// docs/errors.md lists every code; a test keeps the two in step.

interface ErrorKind {
  /** HTTP status of a request that fails with this code, or the one that says the same of a failed prediction. */
  readonly status: number;
  readonly title: string;
  /** True where the same request may succeed later without a change. */
  readonly retryable: boolean;
}

export const errorCatalogue = {
  'malformed-request': { status: 400, title: 'The request cannot be read', retryable: false },
  'unauthorized': { status: 401, title: 'The request needs a valid API key', retryable: false },
  'forbidden': { status: 403, title: 'The API key does not allow this', retryable: false },
  'place-not-allowed': { status: 403, title: 'The path lies outside the places that are allowed', retryable: false },
  'not-found': { status: 404, title: 'There is no such thing here', retryable: false },
  'unknown-model': { status: 404, title: 'The model, version or alias is not in the repository', retryable: false },
  'method-not-allowed': { status: 405, title: 'This path does not take that method', retryable: false },
  'not-redeliverable': { status: 409, title: 'The delivery is still under way', retryable: true },
  'backfill-state': { status: 409, title: 'The backfill’s state does not allow this', retryable: false },
  'not-cancelable': { status: 409, title: 'The prediction had already ended', retryable: false },
  'input-changed': { status: 409, title: 'The input is no longer what it was when the backfill began', retryable: false },
  'result-expired': { status: 410, title: 'The result is older than the retention', retryable: false },
  'payload-too-large': { status: 413, title: 'The request is larger than the limit', retryable: false },
  'unsupported-media-type': { status: 415, title: 'The body’s type or encoding cannot be read', retryable: false },
  'invalid-prediction': { status: 422, title: 'The prediction does not fit its model or the schema', retryable: false },
  'invalid-webhook': { status: 422, title: 'The webhook does not fit the schema, or its target may not be called', retryable: false },
  'invalid-backfill': { status: 422, title: 'The backfill does not fit its model, its input or the schema', retryable: false },
  'unreadable-input': { status: 422, title: 'The input cannot be read', retryable: false },
  'idempotency-mismatch': { status: 422, title: 'The idempotency key stands for another request', retryable: false },
  'tenant-queue-full': { status: 429, title: 'Too much of yours is queued', retryable: true },
  'rate-limited': { status: 429, title: 'The API key has used up what it may do', retryable: true },
  'internal': { status: 500, title: 'Something broke on our side', retryable: true },
  'backfills-off': { status: 503, title: 'Nobody works on backfills here', retryable: true },
  'model-unavailable': { status: 503, title: 'The model version cannot be loaded', retryable: true },
  'overloaded': { status: 503, title: 'Too much is waiting to be queued', retryable: true },
  'queue-unavailable': { status: 503, title: 'Redis cannot be reached', retryable: true },
  'queue-full': { status: 503, title: 'Too much is queued', retryable: true },
  'queue-memory': { status: 503, title: 'Redis is short of memory', retryable: true },
  'deadline-unmeetable': { status: 503, title: 'The backlog is too long for this deadline', retryable: true },
  'storage-unavailable': { status: 503, title: 'A file or object cannot be read or written', retryable: true },
  'payload-lost': { status: 410, title: 'The inputs are gone', retryable: false },
  'model-changed': { status: 409, title: 'The file of this model version is not the one that was asked for', retryable: false },
  'invalid-row': { status: 422, title: 'The row cannot be read, or does not fit its model', retryable: false },
  'model-failed': { status: 422, title: 'The model refused these inputs', retryable: false },
  'out-of-memory': { status: 503, title: 'The model ran out of memory', retryable: true },
  'worker-crashed': { status: 500, title: 'The worker died twice while it ran the prediction', retryable: false },
  'too-many-errors': { status: 422, title: 'More rows of the backfill failed than may', retryable: false },
  'deadline-exceeded': { status: 504, title: 'The deadline passed before the prediction ran', retryable: false },
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof errorCatalogue;

/** One thing wrong with a request: where it stands (a JSON pointer as URI fragment, RFC 6901 §6) and what was expected. */
export interface Fault {
  readonly pointer: string;
  readonly detail: string;
}

/** An expected failure. Thrown where a request or a prediction cannot go on; translated in one place per process. */
export class MillraceError extends Error {
  override readonly name = 'MillraceError';
  readonly code: ErrorCode;
  readonly faults: readonly Fault[];
  /** Seconds after which trying again makes sense, where that is known. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: ErrorCode,
    detail: string,
    options: { faults?: readonly Fault[]; cause?: unknown; retryAfterSeconds?: number } = {},
  ) {
    super(detail, 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.faults = options.faults ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }

  get status(): number {
    return errorCatalogue[this.code].status;
  }
}

/** The failure as it stands in a prediction's `error` or in a batch item's: problem members without the transport's. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly errors?: readonly Fault[];
}

/** Makes the RFC 9457 document of an expected failure. */
export function problemOf(error: MillraceError): Problem {
  const { title, status } = errorCatalogue[error.code];
  return {
    type: `/problems/${error.code}`,
    title,
    status,
    detail: error.message,
    ...(error.faults.length > 0 && { errors: error.faults }),
  };
}
