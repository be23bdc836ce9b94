import {
  FaultList, httpLimits, MillraceError, type OutputFormat, outputFormats, type Pending, Prediction, PredictionBatch,
  PredictionBatchRequest, PredictionRequest, presentPrediction, problemOf, problemResponses, type ResultRecord, standingOf,
} from '@millrace/protocol';
import Type from 'typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { CheckedPrediction, Checker } from '../check.ts';
import { FairShare } from '../fair-share.ts';
import { formOf, objectOr } from '../form.ts';
import { idempotencyOf, idempotencyOfItem } from '../idempotency.ts';
import type { Intake, SubmitOptions, Submitted } from '../intake.ts';
import type { ApiMetrics } from '../metrics.ts';
import { type Predictions, revisionOf } from '../predictions.ts';
import { faultsOf } from '../problems.ts';

export interface PredictionRoutes {
  readonly checker: Checker;
  readonly intake: Intake;
  readonly predictions: Predictions;
  readonly metrics: ApiMetrics;
}

const json = 'application/json; charset=utf-8';
/** Outputs with so many characters of base64, or so many strings, take two milliseconds or so to present. */
const largeOutputs = 32 * 1024;

const SubmitHeaders = Type.Object({
  'idempotency-key': Type.Optional(Type.String({ description: 'Repeated with the same body, the submission answers with the prediction that the first one made; with another body it is refused. Remembered as long as results are kept' })),
  prefer: Type.Optional(Type.String({ description: `\`wait=<seconds>\` (RFC 7240): answer with the result where it comes in time; at most ${httpLimits.waitSeconds}` })),
});
const Id = Type.Object({ id: Type.String({ description: 'The prediction’s id' }) });
const Read = Type.Object({
  wait: Type.Optional(Type.String({ pattern: '^[0-9]{1,5}$', description: `Seconds to wait for the result, at most ${httpLimits.waitSeconds}` })),
  format: Type.Optional(Type.Enum([...outputFormats], { description: 'The form of the outputs, where it is not to be the one asked for at submission' })),
}, { additionalProperties: false });
interface ReadQuery { wait?: string; format?: OutputFormat }

/** Submitting, reading and canceling predictions. */
export function predictionRoutes(app: FastifyInstance, { checker, intake, predictions, metrics }: PredictionRoutes): void {
  const tags = ['predictions'];
  const largeReads = new FairShare();
  const stateNow = ({ id, checked, replayed }: Submitted, { tenant, waitMs }: SubmitOptions) => {
    if (replayed) return predictions.now(id, tenant, queued(checked), waitMs);
    return waitMs === 0 ? queued(checked) : predictions.now(id, tenant, queued(checked));
  };

  app.post('/predictions', {
    config: { scope: 'predict:write', predictions: () => 1 },
    attachValidation: true,
    schema: {
      tags,
      summary: 'Submit a prediction',
      description: 'Answers 202 once the prediction is safe, or 200 with its result where `Prefer: wait` was given and it came in time.',
      headers: SubmitHeaders,
      body: PredictionRequest,
      response: { 200: Prediction, 202: Prediction, ...problemResponses('malformed-request', 'unknown-model', 'payload-too-large', 'unsupported-media-type', 'invalid-prediction', 'idempotency-mismatch', 'overloaded', 'tenant-queue-full') },
    },
  }, async (request, reply) => {
    const { tenant } = request.caller;
    const { body, faults } = formOf<PredictionRequest>(request);
    if (body.webhook !== undefined) await checker.checkTarget(body, faults);
    const checked = checker.check(body, faults);
    const waitMs = preferredWaitMs(request, reply);
    const submitted = await intake.submit(checked, { tenant, waitMs, reservation: idempotencyOf(request.headers['idempotency-key'], request.body), span: request.span });
    const { id, reply: settled, replayed } = submitted;
    void reply.header('location', urlOf(id));
    if (replayed) void reply.header('idempotency-replayed', 'true');
    if (settled !== undefined) return reply.type(json).send(settled);
    const known = await stateNow(submitted, { tenant, waitMs });
    if ('outcome' in known) return presentPrediction(id, known);
    return reply.code(202).header('retry-after', 1).send(presentPrediction(id, known));
  });

  app.post<{ Body: { requests?: unknown } }>('/predictions::batch', {
    config: { scope: 'predict:write', predictions: batchLength },
    attachValidation: true,
    schema: {
      tags,
      summary: `Submit up to ${httpLimits.batch} predictions, each accepted or refused on its own`,
      description: 'Answers 202 while any accepted prediction is unsettled, else 200; `Prefer: wait` is for all of them together.',
      headers: SubmitHeaders,
      body: PredictionBatchRequest,
      response: { 200: PredictionBatch, 202: PredictionBatch, ...problemResponses('malformed-request', 'payload-too-large', 'unsupported-media-type', 'invalid-prediction') },
    },
  }, async (request, reply) => {
    const { tenant } = request.caller;
    const { items, faultsByItem } = splitBatch(request);
    const waitMs = preferredWaitMs(request, reply);
    const reservation = idempotencyOf(request.headers['idempotency-key'], request.body);
    const results = await Promise.all(items.map(async (item, index): Promise<(Submitted & { settled?: boolean }) | MillraceError> => {
      try {
        const body = objectOr<PredictionRequest>(item);
        const itsFaults = faultsByItem[index] as FaultList;
        const pointer = `#/requests/${index}`;
        if (body.webhook !== undefined) await checker.checkTarget(body, itsFaults, pointer);
        const checked = checker.check(body, itsFaults, pointer);
        const submitted = await intake.submit(checked, { tenant, waitMs, reservation: idempotencyOfItem(reservation, index), span: request.span });
        if (submitted.reply !== undefined || (waitMs === 0 && !submitted.replayed)) return submitted;
        const known = await stateNow(submitted, { tenant, waitMs });
        return { ...submitted, reply: JSON.stringify(presentPrediction(submitted.id, known)), settled: 'outcome' in known };
      } catch (error) {
        if (!(error instanceof MillraceError)) throw error;
        metrics.rejected.inc({ reason: error.code });
        return error;
      }
    }));
    const settled = results.every((result) => result instanceof MillraceError || (result.settled ?? result.reply !== undefined));
    const retryAfter = Math.max(0, ...results.map((result) => (result instanceof MillraceError && result.retryAfterSeconds) || 0));
    if (retryAfter > 0) void reply.header('retry-after', retryAfter);
    return reply.code(settled ? 200 : 202).type(json).send(batchText(results));
  });

  app.get<{ Params: { id: string }; Querystring: ReadQuery }>('/predictions/:id', {
    config: { scope: 'predict:read' },
    schema: {
      tags,
      summary: 'Read a prediction, or wait for its result',
      description: 'With `wait` it answers as soon as there is a result, and else with the present state when the time is over. `If-None-Match` with the last ETag answers 304 while nothing has changed.',
      params: Id,
      querystring: Read,
      response: { 200: Prediction, 304: Type.Null(), ...problemResponses('malformed-request', 'not-found', 'result-expired', 'queue-unavailable') },
    },
  }, async (request, reply) => {
    const { wait = '0', format } = request.query;
    const { id } = request.params;
    const { known } = await predictions.find(id, request.caller.tenant, Math.min(Number(wait), httpLimits.waitSeconds) * 1000);
    const etag = `"${revisionOf(standingOf(known))}"`;
    void reply.header('etag', etag).header('cache-control', 'no-cache');
    if (!('outcome' in known)) void reply.header('retry-after', 1);
    if (matches(request.headers['if-none-match'], etag)) return reply.code(304).send();
    // Where the client has left by then, there is nothing to make.
    const text = () => (reply.raw.destroyed ? '' : JSON.stringify(presentPrediction(id, known, { format })));
    return reply.type(json).send(isLarge(known) ? await largeReads.run(text) : text());
  });

  app.post<{ Params: { id: string } }>('/predictions/:id/cancel', {
    config: { scope: 'predict:write' },
    schema: {
      tags,
      summary: 'Cancel a prediction',
      description: 'The first outcome wins: a canceled prediction never shows a result, and one that had ended stays as it is.',
      params: Id,
      response: { 200: Prediction, ...problemResponses('not-found', 'not-cancelable', 'result-expired', 'queue-unavailable') },
    },
  }, async ({ params: { id }, caller }) => presentPrediction(id, await predictions.cancel(id, caller.tenant)));
}

/** How many predictions a batch asks for; one that is no batch asks for one. */
function batchLength(body: unknown): number {
  const { requests } = objectOr<{ requests: unknown }>(body);
  return Array.isArray(requests) ? requests.length : 1;
}

function splitBatch(request: FastifyRequest<{ Body: { requests?: unknown } }>): { items: readonly unknown[]; faultsByItem: FaultList[] } {
  const faults = faultsOf(request.validationError?.validation ?? []);
  const ofItem = /^#\/requests\/(\d+)/;
  const envelope = faults.filter(({ pointer }) => !ofItem.test(pointer));
  if (envelope.length > 0) throw new MillraceError('invalid-prediction', 'The batch does not fit its schema; nothing of it was accepted', { faults: envelope });
  const items = request.body.requests as readonly unknown[];
  const faultsByItem = items.map(() => new FaultList());
  for (const { pointer, detail } of faults) faultsByItem[Number(ofItem.exec(pointer)?.[1])]?.add(pointer, detail);
  return { items, faultsByItem };
}

/** Put together as text: results come as text, and parsing them would round long integers. */
function batchText(results: readonly (Submitted | MillraceError)[]): string {
  const rejected = results.filter((result) => result instanceof MillraceError).length;
  const entries = results.map((result, index) => {
    if (result instanceof MillraceError) return `{"index":${index},"error":${JSON.stringify(problemOf(result))}}`;
    const { id, checked, reply } = result;
    return `{"index":${index},"prediction":${reply ?? JSON.stringify(presentPrediction(id, queued(checked)))}}`;
  });
  return `{"accepted":${results.length - rejected},"rejected":${rejected},"results":[${entries.join(',')}]}`;
}

function queued({ version, bundled }: CheckedPrediction): Pending {
  const { acceptedAt, echo } = bundled;
  return { state: 'queued', model: version.id.name, version: version.id.version, acceptedAt, ...(echo && { echo }) };
}

function isLarge(known: ResultRecord | Pending): boolean {
  const outputs = 'outcome' in known ? Object.values(known.outputs ?? {}) : [];
  return outputs.reduce((sum, { data }) => sum + data.length, 0) > largeOutputs;
}

/** Reads `Prefer: wait=<seconds>` and says what is done of it. */
function preferredWaitMs(request: FastifyRequest, reply: FastifyReply): number {
  const { prefer } = request.headers;
  const wait = prefer === undefined ? undefined : /(?:^|[\s,;])wait=(\d{1,5})(?:$|[\s,;])/.exec(String(prefer))?.[1];
  if (wait === undefined) return 0;
  const seconds = Math.min(Number(wait), httpLimits.waitSeconds);
  void reply.header('preference-applied', `wait=${seconds}`);
  return seconds * 1000;
}

/** Whether an If-None-Match header names the tag; weak tags count too (RFC 9110 §13.1.2). */
function matches(header: string | undefined, etag: string): boolean {
  return header?.split(',').some((tag) => tag.trim() === '*' || tag.trim().replace(/^W\//, '') === etag) ?? false;
}

function urlOf(id: string): string {
  return `/api/v1/predictions/${id}`;
}
