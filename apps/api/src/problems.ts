// Every failure of a request becomes a problem document (RFC 9457) here, and only here.
import { below, errorCatalogue, type ErrorCode, type Fault, MillraceError, problemOf } from '@millrace/protocol';
import { type Counter, traceField } from '@millrace/process';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest, FastifySchemaValidationError } from 'fastify';

type Reply = (error: MillraceError, request: FastifyRequest, response: FastifyReply) => FastifyReply;
type FailureReply = (error: FastifyError, request: FastifyRequest, response: FastifyReply) => FastifyReply;

export interface ProblemReplies {
  /** For a failure that is known. */
  readonly reply: Reply;
  /** For whatever Fastify, a plugin or a bug throws. */
  readonly replyToFailure: FailureReply;
}

/** `rejected` counts by code. */
export function problemReplies(rejected: Counter<'reason'>, bodyLimitBytes: number): ProblemReplies {
  const reply: Reply = (error, request, response) => {
    rejected.inc({ reason: error.code });
    if (error.code === 'unauthorized') void response.header('www-authenticate', 'Bearer realm="millrace"');
    if (error.retryAfterSeconds !== undefined) void response.header('retry-after', error.retryAfterSeconds);
    // A connection that closes while a body comes in takes the answer with it. What comes is dropped, for `requestTimeout` at most.
    response.removeHeader('connection');
    // As bytes, so that the type goes out as it is: JSON media types have no charset (RFC 8259 §11).
    return response.code(error.status).header('content-type', 'application/problem+json').send(Buffer.from(JSON.stringify({ ...problemOf(error), instance: request.id })));
  };
  return { reply, replyToFailure: (error, request, response) => reply(expectedError(error, request, bodyLimitBytes), request, response) };
}

/** Answers failed requests, unknown paths and wrong methods. */
export function replyWithProblems(app: FastifyInstance, { reply, replyToFailure }: ProblemReplies): void {
  app.setErrorHandler(replyToFailure);
  const replyNotFound = (request: FastifyRequest, response: FastifyReply) => {
    const path = request.url.split('?')[0] ?? '';
    const allowed = app.supportedMethods.filter((method) => method !== request.method && app.findRoute({ method, url: path }) !== null);
    if (allowed.length === 0) return reply(new MillraceError('not-found', `There is nothing at ${path}`), request, response);
    void response.header('allow', allowed.join(', '));
    return reply(new MillraceError('method-not-allowed', `${path} takes ${allowed.join(', ')}, not ${request.method}`), request, response);
  };
  app.setNotFoundHandler(replyNotFound);
  // Before the body is read: a path that leads nowhere asks nobody for a key.
  app.addHook('onRequest', (request, response, done) => {
    if (request.is404) void replyNotFound(request, response);
    else done();
  });
}

function expectedError(error: FastifyError, request: FastifyRequest, bodyLimitBytes: number): MillraceError {
  if (error instanceof MillraceError) return error;
  if (error.validation) return new MillraceError('malformed-request', error.message, { faults: faultsOf(error.validation, error.validationContext === 'body' ? '' : error.validationContext) });
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new MillraceError('payload-too-large', `The body is larger than ${bodyLimitBytes} bytes`);
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new MillraceError('unsupported-media-type', `The body must be application/json, not ${request.headers['content-type'] ?? 'without a type'}`);
    default:
      if (error.statusCode !== undefined && error.statusCode < 500) return new MillraceError('malformed-request', error.message);
      request.log.error({ err: error, requestId: request.id, ...traceField(request.span?.headers) }, 'request failed');
      return new MillraceError('internal', 'The request failed on our side; the server’s log has the reason under this instance');
  }
}

/** The faults that a schema found, each at the member that is wrong, missing or too much. `root` goes before the pointer, where it is not one into the body. */
export function faultsOf(validation: readonly FastifySchemaValidationError[], root = ''): Fault[] {
  return validation
    .filter(({ keyword }) => keyword !== 'anyOf' && keyword !== 'oneOf')
    .map(({ instancePath, params, message = 'does not fit the schema' }) => {
      const member = params['missingProperty'] ?? params['additionalProperty'];
      const at = `#${root && `/${root}`}${instancePath.toWellFormed().split('/').map(encodeURIComponent).join('/')}`;
      const allowed = params['allowedValues'];
      const detail = Array.isArray(allowed) ? `must be one of ${allowed.join(', ')}` : 'allowedValue' in params ? `must be ${JSON.stringify(params['allowedValue'])}` : message;
      if (typeof member !== 'string') return { pointer: at, detail };
      return { pointer: below(at, member), detail: params['missingProperty'] === undefined ? 'unknown member' : 'missing' };
    });
}

/** What a code means, for the page that a problem's `type` leads to. */
export function explainProblem(code: string): Record<string, unknown> {
  if (!Object.hasOwn(errorCatalogue, code)) throw new MillraceError('not-found', `There is no problem type "${code}"`);
  return { code, ...errorCatalogue[code as ErrorCode] };
}
