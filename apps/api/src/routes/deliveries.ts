import {
  Delivery, DeliveryPage, type DeliveryState, deliveryStates, type EventType, eventTypes, httpLimits, problemResponses, Redelivered, RedeliverRequest,
} from '@millrace/protocol';
import Type from 'typebox';
import type { FastifyInstance } from 'fastify';
import { type Deliveries, deliveryIdForm, goesTo } from '../deliveries.ts';
import { type Filters, readPageToken, writePageToken } from '../page-token.ts';
import { presentDelivery } from '../present-webhooks.ts';

const { pageSize } = httpLimits;
const time = (description: string) => Type.Optional(Type.String({ format: 'date-time', description }));
const Id = Type.Object({ id: Type.String({ description: 'The delivery’s id' }) });
interface OfId { Params: { id: string } }
const List = Type.Object({
  status: Type.Optional(Type.Enum([...deliveryStates])),
  endpoint_id: Type.Optional(Type.String({ description: 'Only to this registered endpoint' })),
  event: Type.Optional(Type.Enum([...eventTypes])),
  prediction_id: Type.Optional(Type.String({ description: 'Only what tells of this prediction' })),
  backfill_id: Type.Optional(Type.String({ description: 'Only what tells of this backfill' })),
  created_after: time('Only of events after this time'),
  created_before: time('Only of events before this time'),
  page_size: Type.Optional(Type.String({ pattern: '^[0-9]{1,9}$', description: `Deliveries in a page: ${pageSize.default} by default, at most ${pageSize.most} (more becomes that)` })),
  page_token: Type.Optional(Type.String({ description: 'The `next_page_token` of the page before; the filters must stay the same' })),
}, { additionalProperties: false });

interface ListQuery {
  readonly status?: DeliveryState;
  readonly endpoint_id?: string;
  readonly event?: EventType;
  readonly prediction_id?: string;
  readonly backfill_id?: string;
  readonly created_after?: string;
  readonly created_before?: string;
  readonly page_size?: string;
  readonly page_token?: string;
}

/** What was told to whom, and telling it again. */
export function deliveryRoutes(app: FastifyInstance, { deliveries }: { readonly deliveries: Deliveries }): void {
  const config = { scope: 'webhooks:admin' } as const;
  const tags = ['deliveries'];

  app.get<{ Querystring: ListQuery }>('/deliveries', {
    config,
    schema: {
      tags,
      summary: 'List deliveries, newest first',
      description: 'By the time of their events. A page may be short, even empty: only an empty `next_page_token` says that it is the last one.',
      querystring: List,
      response: { 200: DeliveryPage, ...problemResponses('malformed-request', 'queue-unavailable') },
    },
  }, async ({ caller: { tenant }, query }) => {
    const { status, endpoint_id: endpointId, event, prediction_id: predictionId, backfill_id: backfillId } = query;
    const { created_after: after, created_before: before, page_size: size = '0', page_token: token = '' } = query;
    const filters: Filters = [tenant, status, endpointId, event, predictionId, backfillId, after, before];
    const { deliveries: listed, next } = await deliveries.list({
      tenant,
      dead: status === 'dead',
      matches: (delivery) => (status === undefined || status === delivery.status) && (event === undefined || event === delivery.event)
        && (predictionId === undefined || predictionId === delivery.predictionId) && (backfillId === undefined || backfillId === delivery.backfillId) && goesTo(delivery, endpointId),
      ...(after !== undefined && { since: Date.parse(after) + 1 }),
      ...(before !== undefined && { until: Date.parse(before) }),
      ...(token !== '' && { after: readPageToken(token, filters, deliveryIdForm)[0] }),
      limit: Number(size) === 0 ? pageSize.default : Math.min(Number(size), pageSize.most),
    });
    return { deliveries: listed.map(presentDelivery), next_page_token: next === undefined ? '' : writePageToken(next, filters) };
  });

  app.get<OfId>('/deliveries/:id', {
    config,
    schema: { tags, summary: 'One delivery with its attempts', params: Id, response: { 200: Delivery, ...problemResponses('not-found', 'queue-unavailable') } },
  }, async ({ params: { id }, caller: { tenant } }) => presentDelivery(await deliveries.find(id, tenant)));

  app.post<OfId>('/deliveries/:id/redeliver', {
    config,
    schema: {
      tags,
      summary: 'Send a delivery again',
      description: 'With the same `webhook-id` and body, whether it had arrived or was given up.',
      params: Id,
      response: { 202: Delivery, ...problemResponses('not-found', 'not-redeliverable', 'queue-unavailable') },
    },
  }, async ({ params: { id }, caller: { tenant } }, reply) => reply.code(202).send(presentDelivery(await deliveries.redeliver(id, tenant))));

  app.post<{ Body: RedeliverRequest }>('/deliveries::redeliver', {
    config,
    schema: {
      tags,
      summary: 'Send dead deliveries again',
      body: RedeliverRequest,
      response: { 202: Redelivered, ...problemResponses('malformed-request', 'queue-unavailable') },
    },
  }, async ({ body, caller: { tenant } }, reply) => reply.code(202).send(await deliveries.redeliverDead(tenant, body)));
}
