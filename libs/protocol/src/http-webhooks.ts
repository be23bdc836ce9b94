// The public API's bodies for those who are told of results: webhooks, their endpoints and deliveries, reply queues.
import Type, { type Static } from 'typebox';
import { backfillEvents } from './backfill.ts';
import { payloadKinds, type PredictionEvent, predictionEvents } from './bundle.ts';
import { closed, orNull } from './schema.ts';

export const webhookLimits = {
  urlLength: 2048,
  /** Endpoints of one tenant. */
  endpoints: 50,
  /** Both secrets sign for so long after a rotation. */
  rotationSeconds: 86_400,
  /** Deliveries that one request for redelivery may take on, and what it may look through. */
  redeliveries: 10_000,
} as const;

export const replyQueuePattern = '^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$';

export const eventTypes = [...predictionEvents, ...backfillEvents, 'endpoint.disabled', 'endpoint.test'] as const;
export type EventType = (typeof eventTypes)[number];

/** What an endpoint can be told; `endpoint.test` comes when it is asked for. */
export const endpointEvents = [...predictionEvents, ...backfillEvents, 'endpoint.disabled'] as const;
export type EndpointEvent = (typeof endpointEvents)[number];

/** Whoever says nothing of events is told how the prediction or the backfill ends; a registered endpoint, how predictions do. */
export const defaultEvents = {
  prediction: predictionEvents.filter((event) => event !== 'prediction.started'),
  backfill: backfillEvents.filter((event) => event !== 'backfill.progress'),
} as const;

const time = (description: string) => Type.String({ format: 'date-time', description });
const url = Type.String({ minLength: 1, maxLength: webhookLimits.urlLength, description: 'An https URL on port 443 or 8443 whose host has public addresses only', examples: ['https://example.com/hooks/millrace'] });
const payload = Type.Enum([...payloadKinds], { description: '`thin` (the default) tells of the prediction without its outputs; `full` has them where they take at most 16 KiB, and else `outputs_truncated`' });

export const PredictionWebhook = Type.Object({
  url,
  events: Type.Optional(Type.Array(Type.Enum([...predictionEvents]), { minItems: 1, uniqueItems: true, description: 'All but `prediction.started` by default' })),
  payload: Type.Optional(payload),
}, { ...closed, description: 'Called when the prediction has ended; signed with the tenant’s webhook secret (`GET /webhook-secret`)' });
export type PredictionWebhook = Static<typeof PredictionWebhook>;

export const BackfillWebhook = Type.Object({
  url,
  events: Type.Optional(Type.Array(Type.Enum([...backfillEvents]), { minItems: 1, uniqueItems: true, description: 'All but `backfill.progress` by default' })),
  payload: Type.Optional(Type.Enum([...payloadKinds], { description: '`thin` (the default) tells of the backfill without what was asked for, but for the output; `full` has it all where that takes at most 16 KiB, and else `request_truncated`' })),
}, { ...closed, description: 'Called when the backfill has ended; signed with the tenant’s webhook secret (`GET /webhook-secret`)' });
export type BackfillWebhook = Static<typeof BackfillWebhook>;

const endpointMembers = {
  url,
  description: Type.String({ maxLength: 256 }),
  events: Type.Array(Type.Enum([...endpointEvents]), { minItems: 1, uniqueItems: true, description: 'How predictions end, by default' }),
  payload,
};

export const NewWebhookEndpoint = Type.Object({
  url, description: Type.Optional(endpointMembers.description), events: Type.Optional(endpointMembers.events), payload: Type.Optional(payload),
}, { ...closed, description: 'Told of all predictions of the tenant, and of its backfills where `events` says so' });
export type NewWebhookEndpoint = Static<typeof NewWebhookEndpoint>;

export const WebhookEndpointPatch = Type.Object({
  url: Type.Optional(url), description: Type.Optional(endpointMembers.description), events: Type.Optional(endpointMembers.events), payload: Type.Optional(payload),
  enabled: Type.Optional(Type.Literal(false, { description: 'false disables it, and what happens until it is enabled is not kept for it; `POST …/enable` enables it again' })),
}, { ...closed, minProperties: 1, description: 'What is named is changed' });
export type WebhookEndpointPatch = Static<typeof WebhookEndpointPatch>;

export const disabledReasons = ['request', 'gone', 'failing'] as const;
/** `request`: somebody asked for it; `gone`: it answered 410; `failing`: nothing arrived for too long. */
export type DisabledReason = (typeof disabledReasons)[number];

export const WebhookEndpoint = Type.Object({
  id: Type.String(),
  object: Type.Literal('webhook_endpoint'),
  ...endpointMembers,
  enabled: Type.Boolean(),
  disabled_at: orNull('string', 'When it was disabled', { format: 'date-time' }),
  disabled_reason: orNull('string', `Why: ${disabledReasons.join(', ')}`, { enum: [...disabledReasons, null] }),
  failing_since: orNull('string', 'Since when nothing has arrived', { format: 'date-time' }),
  created_at: time('When it was made'),
});
export type WebhookEndpoint = Static<typeof WebhookEndpoint>;

export const WebhookSecret = Type.Object({
  secret: Type.String({ description: '`whsec_` and the key in base64: what deliveries are signed with (Standard Webhooks 1.0)' }),
  old_secret_expires_at: orNull('string', 'Until then the secret before this one signs too', { format: 'date-time' }),
});
export type WebhookSecret = Static<typeof WebhookSecret>;

export const WebhookEndpointWithSecret = Type.Intersect([WebhookEndpoint, Type.Object({ secret: Type.String() })], { description: 'The secret is shown here, and by `…/secret`' });

export const WebhookEndpointList = Type.Object({ webhook_endpoints: Type.Array(WebhookEndpoint) });

export const deliveryStates = ['pending', 'delivered', 'dead'] as const;
/** `dead`: given up. It is kept and can be sent again. */
export type DeliveryState = (typeof deliveryStates)[number];

export const DeliveryAttempt = Type.Object({
  at: time('When it began'),
  duration_ms: Type.Number(),
  status_code: orNull('integer', 'The answer’s status, where there was an answer'),
  error: orNull('string', 'Why there was none'),
  response_excerpt: orNull('string', 'The beginning of the answer’s body'),
});
export type DeliveryAttempt = Static<typeof DeliveryAttempt>;

export const Delivery = Type.Object({
  id: Type.String(),
  object: Type.Literal('delivery'),
  status: Type.Enum([...deliveryStates]),
  event_id: Type.String({ description: 'The header `webhook-id`, or the id of the job in the reply queue: the same at every attempt' }),
  event: Type.Enum([...eventTypes]),
  prediction_id: orNull('string', 'The prediction that it tells of'),
  backfill_id: orNull('string', 'The backfill that it tells of'),
  endpoint_id: orNull('string', 'The registered endpoint that it goes to'),
  url: orNull('string', 'Where it goes; null for a reply queue'),
  reply_queue: orNull('string', 'The reply queue that it goes to'),
  created_at: time('When the event was'),
  next_attempt_at: orNull('string', 'When it is tried again', { format: 'date-time' }),
  reason: orNull('string', 'Why it is dead'),
  attempts: Type.Array(DeliveryAttempt, { description: 'The last ones, oldest first' }),
});
export type Delivery = Static<typeof Delivery>;

export const DeliveryPage = Type.Object({
  deliveries: Type.Array(Delivery, { description: 'Newest first' }),
  next_page_token: Type.String({ description: 'For `page_token`; empty on the last page. A page may be short, even empty, and not be the last' }),
});
export type DeliveryPage = Static<typeof DeliveryPage>;

const since = Type.Optional(time('Only of events at or after this time'));
const until = Type.Optional(time('Only of events before this time'));
const goOn = Type.Optional(Type.String({ description: 'The `next_page_token` of the answer before; the rest of the request must stay the same' }));

export const RecoverRequest = Type.Object({
  since: time('Everything dead of events at or after this time is sent again'), until, page_token: goOn,
}, closed);
export type RecoverRequest = Static<typeof RecoverRequest>;

export const RedeliverRequest = Type.Object({
  endpoint_id: Type.Optional(Type.String()), since, until, page_token: goOn,
}, { ...closed, description: 'Which dead deliveries to send again' });
export type RedeliverRequest = Static<typeof RedeliverRequest>;

export const Redelivered = Type.Object({
  redelivered: Type.Integer({ description: 'How many are on their way again' }),
  complete: Type.Boolean({ description: `false where there may be more: one request takes on ${webhookLimits.redeliveries} at most. Ask again with \`next_page_token\`` }),
  next_page_token: Type.String({ description: 'For `page_token`; empty where it is complete' }),
});
export type Redelivered = Static<typeof Redelivered>;

/** The data of a job in a reply queue; the job's id is `id`, its name is `type`. */
export interface ReplyMessage {
  /** Members may be added to a version; anything else is a new one. */
  readonly version: 1;
  readonly id: string;
  readonly type: PredictionEvent;
  /** ISO 8601. */
  readonly timestamp: string;
  /** The prediction as `GET /predictions/{id}` shows it; `outputs_truncated` where its outputs are too long for a job. */
  readonly data: unknown;
}
