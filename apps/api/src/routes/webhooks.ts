import {
  Delivery, NewWebhookEndpoint, problemResponses, Redelivered, RecoverRequest, WebhookEndpoint, WebhookEndpointList, WebhookEndpointPatch, WebhookEndpointWithSecret,
  webhookLimits, WebhookSecret,
} from '@millrace/protocol';
import type { Secrets } from '@millrace/queue';
import Type from 'typebox';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Deliveries } from '../deliveries.ts';
import type { Endpoints } from '../endpoints.ts';
import { formOf } from '../form.ts';
import { presentDelivery, presentEndpoint, presentSecrets } from '../present-webhooks.ts';

export interface WebhookRoutes {
  readonly endpoints: Endpoints;
  readonly deliveries: Deliveries;
}

const Id = Type.Object({ id: Type.String({ description: 'The endpoint’s id' }) });
interface OfId { Params: { id: string } }
const rotation = `The one before it signs too for ${webhookLimits.rotationSeconds / 3600} hours; one that was still signing beside that ends now.`;

/** Registered webhook endpoints, and the secrets that sign webhooks. */
export function webhookRoutes(app: FastifyInstance, { endpoints, deliveries }: WebhookRoutes): void {
  const config = { scope: 'webhooks:admin' } as const;
  const tags = ['webhooks'];

  app.post('/webhook-endpoints', {
    config,
    attachValidation: true,
    schema: {
      tags,
      summary: 'Register an endpoint that is told of all predictions, or of all backfills',
      description: `At most ${webhookLimits.endpoints} of them.`,
      body: NewWebhookEndpoint,
      response: { 201: WebhookEndpointWithSecret, ...problemResponses('malformed-request', 'invalid-webhook', 'queue-unavailable') },
    },
  }, async (request, reply) => {
    const { body, faults } = formOf<NewWebhookEndpoint>(request);
    const made = await endpoints.create(body, request.caller.tenant, faults);
    const { id, secrets } = made.endpoint;
    return secretly(reply.code(201).header('location', `/api/v1/webhook-endpoints/${id}`)).send({ ...presentEndpoint(made), secret: secrets.current });
  });

  app.get('/webhook-endpoints', {
    config,
    schema: { tags, summary: 'All registered endpoints, oldest first', response: { 200: WebhookEndpointList, ...problemResponses('queue-unavailable') } },
  }, async ({ caller: { tenant } }) => ({ webhook_endpoints: (await endpoints.list(tenant)).map(presentEndpoint) }));

  const ofOne = (summary: string, description = '') => ({ tags, summary, ...(description !== '' && { description }), params: Id });
  const problems = problemResponses('not-found', 'queue-unavailable');

  app.get<OfId>('/webhook-endpoints/:id', {
    config, schema: { ...ofOne('One registered endpoint'), response: { 200: WebhookEndpoint, ...problems } },
  }, async ({ params: { id }, caller: { tenant } }) => presentEndpoint(await endpoints.find(id, tenant)));

  app.patch<OfId>('/webhook-endpoints/:id', {
    config,
    attachValidation: true,
    schema: {
      ...ofOne('Change or disable an endpoint', 'Deliveries that are under way go to the new URL at their next attempt.'),
      body: WebhookEndpointPatch,
      response: { 200: WebhookEndpoint, ...problems, ...problemResponses('malformed-request', 'invalid-webhook') },
    },
  }, (request) => {
    const { body, faults } = formOf<WebhookEndpointPatch>(request);
    return endpoints.patch(request.params.id, request.caller.tenant, body, faults).then(presentEndpoint);
  });

  app.delete<OfId>('/webhook-endpoints/:id', {
    config, schema: { ...ofOne('Remove an endpoint', 'What was not delivered to it yet is given up.'), response: { 204: Type.Null({ description: 'It is gone' }), ...problems } },
  }, async ({ params: { id }, caller: { tenant } }, reply) => {
    await endpoints.remove(id, tenant);
    return reply.code(204).send();
  });

  app.post<OfId>('/webhook-endpoints/:id/enable', {
    config,
    schema: {
      ...ofOne('Enable an endpoint', 'It counts as healthy from then on. `…/recover` sends what did not arrive before.'),
      response: { 200: WebhookEndpoint, ...problems },
    },
  }, async ({ params: { id }, caller: { tenant } }) => presentEndpoint(await endpoints.enable(id, tenant)));

  app.post<OfId>('/webhook-endpoints/:id/test', {
    config,
    schema: { ...ofOne('Send an event `endpoint.test`', 'Also to an endpoint that is disabled. The answer is the delivery.'), response: { 202: Delivery, ...problems } },
  }, async ({ params: { id }, caller: { tenant } }, reply) => {
    const delivery = await endpoints.test(id, tenant);
    return reply.code(202).header('location', `/api/v1/deliveries/${delivery.id}`).send(presentDelivery(delivery));
  });

  app.post<OfId & { Body: RecoverRequest }>('/webhook-endpoints/:id/recover', {
    config,
    schema: {
      ...ofOne('Send its dead deliveries again'), body: RecoverRequest,
      response: { 202: Redelivered, ...problems, ...problemResponses('malformed-request') },
    },
  }, async ({ params: { id }, body, caller: { tenant } }, reply) => {
    await endpoints.find(id, tenant);
    return reply.code(202).send(await deliveries.redeliverDead(tenant, { ...body, endpoint_id: id }));
  });

  const sendSecret = (reply: FastifyReply, secrets: Secrets) => secretly(reply).send(presentSecrets(secrets, Date.now()));

  app.get<OfId>('/webhook-endpoints/:id/secret', {
    config, schema: { ...ofOne('What deliveries to the endpoint are signed with'), response: { 200: WebhookSecret, ...problems } },
  }, async ({ params: { id }, caller: { tenant } }, reply) => sendSecret(reply, (await endpoints.find(id, tenant)).endpoint.secrets));

  app.post<OfId>('/webhook-endpoints/:id/secret/rotate', {
    config, schema: { ...ofOne('Give the endpoint a new secret', rotation), response: { 200: WebhookSecret, ...problems } },
  }, async ({ params: { id }, caller: { tenant } }, reply) => sendSecret(reply, await endpoints.rotate(id, tenant)));

  app.get('/webhook-secret', {
    config,
    schema: { tags, summary: 'What signs the webhooks that requests name', response: { 200: WebhookSecret, ...problemResponses('queue-unavailable') } },
  }, async ({ caller: { tenant } }, reply) => sendSecret(reply, await endpoints.tenantSecrets(tenant)));

  app.post('/webhook-secret/rotate', {
    config,
    schema: { tags, summary: 'Make a new secret for the webhooks that requests name', description: rotation, response: { 200: WebhookSecret, ...problemResponses('queue-unavailable') } },
  }, async ({ caller: { tenant } }, reply) => sendSecret(reply, await endpoints.rotateTenantSecrets(tenant)));
}

/** Nobody on the way keeps the answer. */
function secretly(reply: FastifyReply): FastifyReply {
  return reply.header('cache-control', 'no-store');
}
