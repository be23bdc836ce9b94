import { type BackfillEnd, backfillEnds, outcomes, type Outcome, problemResponses } from '@millrace/protocol';
import type { Redis } from '@millrace/queue';
import Type from 'typebox';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { type EventStream, type EventStreams, placeOf } from '../event-stream.ts';
import { ModelFilter } from '../filters.ts';
import type { PredictionStreams } from '../prediction-streams.ts';
import { readPosition } from '../tail-position.ts';
import { Tail } from '../tail.ts';
import type { TenantFeeds } from '../tenant-feeds.ts';

export interface EventRoutes {
  readonly redis: Redis;
  readonly streams: EventStreams;
  readonly predictionStreams: PredictionStreams;
  readonly feeds: TenantFeeds;
}

const eventStream = { description: 'Server-Sent Events', content: { 'text/event-stream': { schema: Type.String() } } };
const Headers = Type.Object({ 'last-event-id': Type.Optional(Type.String({ description: 'The `id` of the last event that came: what was told is not told again' })) });
interface EventHeaders { 'last-event-id'?: string }
const Filters = Type.Object({
  status: Type.Optional(Type.Enum([...new Set([...outcomes, ...backfillEnds])], { description: 'Backfills end as `completed`, `failed` or `canceled`, predictions as any of the others' })),
  model: Type.Optional(ModelFilter),
}, { additionalProperties: false });
interface TailQuery { status?: Outcome | BackfillEnd; model?: string }

/** Event streams. They have no HEAD: it would open one that nobody reads. */
export function eventRoutes(app: FastifyInstance, { redis, streams, predictionStreams, feeds }: EventRoutes): void {
  const tags = ['events'];

  app.get<{ Params: { id: string }; Headers: EventHeaders }>('/predictions/:id/events', {
    config: { scope: 'predict:read' },
    exposeHeadRoute: false,
    schema: {
      tags,
      summary: 'Follow a prediction until its end',
      description: 'The present state as an event `status`, each later one likewise, and the end as `completed`, `failed`, `canceled` or `expired` with the whole prediction; then the stream ends. Whoever comes back with the `Last-Event-ID` of the end is answered 204.',
      params: Type.Object({ id: Type.String({ description: 'The prediction’s id' }) }),
      headers: Headers,
      response: { 200: eventStream, 204: Type.Null(), ...problemResponses('not-found', 'result-expired', 'queue-unavailable') },
    },
  }, async (request, reply) => {
    const stream = await predictionStreams.open({
      id: request.params.id, tenant: request.caller.tenant, lastEventId: request.headers['last-event-id'] ?? '',
      openStream: () => streams.open({ kind: 'prediction', mayStay: () => request.mayStay() }),
    });
    return stream ? sendStream(reply, stream) : reply.code(204).send();
  });

  app.get<{ Querystring: TailQuery; Headers: EventHeaders }>('/events', {
    config: { scope: 'predict:read' },
    exposeHeadRoute: false,
    schema: {
      tags,
      summary: 'Follow how predictions and backfills end',
      description: 'An event `prediction.completed`, `prediction.failed`, `prediction.canceled` or `prediction.expired` for each, or `backfill.completed`, `backfill.failed` or `backfill.canceled`, with the body of a thin webhook. An event `gap` says that something may have been missed.',
      querystring: Filters,
      headers: Headers,
      response: { 200: eventStream, ...problemResponses('malformed-request', 'queue-unavailable') },
    },
  }, async (request, reply) => {
    const { caller: { tenant }, query: filters, headers: { 'last-event-id': text = '' } } = request;
    const position = text === '' ? undefined : readPosition(text);
    const stream = streams.open({ kind: 'tail', mayStay: () => request.mayStay(), heartbeat: () => placeOf(tail.position) });
    const tail = new Tail({ redis, tenant, filters, stream, position });
    try {
      const leave = await feeds.join(tail);
      stream.body.once('close', leave);
    } catch (error) {
      stream.body.destroy();
      throw error;
    }
    return sendStream(reply, stream);
  });
}

function sendStream(reply: FastifyReply, { body }: EventStream): FastifyReply {
  // Also of a client that leaves before anything is sent.
  if (reply.raw.destroyed) body.destroy();
  else reply.raw.once('close', () => body.destroy());
  // Proxies that keep back what they get would keep back every event.
  return reply.headers({ 'content-type': 'text/event-stream', 'cache-control': 'no-store', 'x-accel-buffering': 'no' }).send(body);
}
