// From an event of the results queue to deliveries: who is told, and of what.
import {
  backfillBody, defaultEvents, eventId, eventOfHead, type EventType, fullBody, type PayloadKind, parsePredictionId, replyMessage, type ResultRecord, thinBody, timeOfHead, type Webhook,
} from '@millrace/protocol';
import {
  type DeliveryStore, type EndpointStore, hears, hostOf, type KnownEndpoint, lookupSettled, type NewDelivery, type PredictionResult, type Redis, type ResultEvent,
  type Target, type Wanted,
} from '@millrace/queue';
import type { Courier } from './courier.ts';
import type { Newcomers } from './newcomers.ts';

/** Whole results may have megabytes, so these are not too many. */
const eventsAtOnce = 64;

export interface FanOutOptions {
  readonly redis: Redis;
  readonly endpoints: EndpointStore;
  readonly deliveries: DeliveryStore;
  readonly courier: Courier;
  readonly newcomers: Newcomers;
}

/** One that is told of an event. */
interface Recipient {
  readonly target: Target;
  readonly payload: PayloadKind | 'reply';
  /** Why it is not told now. */
  readonly reason?: string;
}

export class FanOut {
  readonly #options: FanOutOptions;

  constructor(options: FanOutOptions) {
    this.#options = options;
  }

  /** Resolves when every delivery of these events is in Redis. The same events again make no new ones: nothing is tried before it is known to be new. */
  async take(events: readonly ResultEvent[], again: boolean): Promise<void> {
    const { deliveries, courier, newcomers } = this.#options;
    const endpoints = await this.#endpointsOf(events);
    const writes: Promise<void>[] = [];
    for (let at = 0; at < events.length; at += eventsAtOnce) {
      const wanted = await this.#deliveriesOf(events.slice(at, at + eventsAtOnce), endpoints);
      if (again) {
        courier.look(new Set((await deliveries.add(wanted)).map(hostOf)));
      } else {
        const { written } = await newcomers.tell(wanted);
        written.catch(() => { /* told below, when the others have been tried too */ });
        writes.push(written);
      }
    }
    await Promise.all(writes);
  }

  async #deliveriesOf(events: readonly ResultEvent[], endpoints: ReadonlyMap<string, readonly KnownEndpoint[]>): Promise<NewDelivery[]> {
    const addressed = events.map((event) => ({ event, recipients: recipientsOf(event, endpoints.get(event.tenant) ?? []) }));
    const records = await this.#recordsOf(addressed.flatMap(({ event, recipients }) => (event.kind === 'prediction' && recipients.some(({ payload }) => payload !== 'thin') ? [event] : [])));
    return addressed.flatMap(({ event, recipients }) => deliveriesOf(event, recipients, records));
  }

  /** Read for each batch: what is settled after an endpoint was made is told to it. */
  async #endpointsOf(events: readonly ResultEvent[]): Promise<Map<string, KnownEndpoint[]>> {
    const tenants = [...new Set(events.map(({ tenant }) => tenant))];
    return new Map(await Promise.all(tenants.map(async (tenant) => [tenant, await this.#options.endpoints.list(tenant)] as const)));
  }

  async #recordsOf(events: readonly PredictionResult[]): Promise<Map<string, ResultRecord>> {
    const wanted = events.flatMap(({ predictionId: id, tenant }): Wanted[] => {
      const address = parsePredictionId(id);
      return address ? [{ id, address, tenant }] : [];
    });
    return new Map(await lookupSettled(this.#options.redis, wanted));
  }
}

function recipientsOf(event: ResultEvent, endpoints: readonly KnownEndpoint[]): Recipient[] {
  const type = typeOf(event);
  const recipients: Recipient[] = [];
  const webhook: Webhook<EventType> | undefined = event.kind === 'backfill' ? event.head.backfill.spec.webhook : event.notify?.webhook;
  const wanted: readonly EventType[] = webhook?.events ?? defaultEvents[event.kind];
  if (webhook && wanted.includes(type)) recipients.push({ target: { kind: 'webhook', url: webhook.url }, payload: webhook.payload ?? 'thin' });
  const queue = event.kind === 'prediction' && 'outcome' in event.head ? event.notify?.replyQueue : undefined;
  if (queue !== undefined) recipients.push({ target: { kind: 'reply-queue', queue }, payload: 'reply' });
  for (const { endpoint: { id, url, events, payload }, health } of endpoints) {
    if (!events.some((listened) => listened === type) || !hears(health)) continue;
    recipients.push({ target: { kind: 'webhook', url, endpointId: id }, payload, ...(health.disabled && { reason: 'The endpoint is disabled' }) });
  }
  return recipients;
}

function typeOf(event: ResultEvent): EventType {
  return event.kind === 'backfill' ? event.head.event : eventOfHead(event.head);
}

/** `records`: the whole results that somebody wants and that have not expired. */
function deliveriesOf(event: ResultEvent, recipients: readonly Recipient[], records: ReadonlyMap<string, ResultRecord>): NewDelivery[] {
  const common = commonOf(event);
  // One text for all who are told the same: there may be many, and it may be long.
  const bodies = new Map<Recipient['payload'], string>();
  return recipients.map(({ target, payload, reason }) => {
    const body = bodies.get(payload) ?? bodyFor(payload, event, records);
    bodies.set(payload, body);
    return { ...common, target, body, ...(reason !== undefined && { reason }) };
  });
}

function commonOf(event: ResultEvent): Omit<NewDelivery, 'target' | 'body'> {
  const { tenant } = event;
  if (event.kind === 'backfill') {
    const { event: type, eventId: id, at, backfill } = event.head;
    return { tenant, backfillId: backfill.id, event: type, eventId: id, at };
  }
  const { predictionId, head } = event;
  const type = eventOfHead(head);
  return { tenant, predictionId, event: type, eventId: eventId(predictionId, type), at: timeOfHead(head), trace: head.trace };
}

function bodyFor(payload: Recipient['payload'], event: ResultEvent, records: ReadonlyMap<string, ResultRecord>): string {
  // Nobody waits for a backfill at a reply queue.
  if (event.kind === 'backfill') return backfillBody(event.head, payload === 'full' ? 'full' : 'thin');
  const { predictionId, head } = event;
  const whole = records.get(predictionId) ?? ('outcome' in head ? head : undefined);
  if (payload === 'thin' || whole === undefined) return thinBody(predictionId, head);
  return payload === 'reply' ? replyMessage(predictionId, whole) : fullBody(predictionId, whole);
}
