// A tenant's deliveries: reading them, and sending them again.
import { MillraceError, type Redelivered, type RedeliverRequest, webhookLimits } from '@millrace/protocol';
import { type DeliveryPage, type DeliveryQuery, type DeliveryRecord, type DeliveryStore, rethrowUnavailable } from '@millrace/queue';
import { readPageToken, writePageToken } from './page-token.ts';

/** A delivery's id: where a page of them ends. */
export const deliveryIdForm = /^dlv_[0-9a-f]{32}$/;

/** Written together: more would hold up Redis, where each is one script. */
const redeliveredAtOnce = 200;

/** All of it may throw `queue-unavailable`; what takes an id, `not-found`. */
export class Deliveries {
  readonly #store: DeliveryStore;

  constructor(store: DeliveryStore) {
    this.#store = store;
  }

  async find(id: string, tenant: string): Promise<DeliveryRecord> {
    const delivery = await this.#store.find(id, tenant).catch(rethrowUnavailable);
    if (!delivery) throw new MillraceError('not-found', 'There is no such delivery');
    return delivery;
  }

  /** One page of them, newest first. */
  async list(query: DeliveryQuery): Promise<DeliveryPage> {
    return this.#store.list(query).catch(rethrowUnavailable);
  }

  /** Sends one again that has ended. Throws `not-redeliverable`. */
  async redeliver(id: string, tenant: string): Promise<DeliveryRecord> {
    const [again] = await this.#store.redeliver([await this.find(id, tenant)]).catch(rethrowUnavailable);
    if (!again) throw new MillraceError('not-redeliverable', 'The delivery has not ended yet: it is tried again by itself');
    return again;
  }

  /** Sends dead ones again, as many as one request may. Throws `malformed-request` where the page token is of another one. */
  async redeliverDead(tenant: string, { endpoint_id: endpointId, since, until, page_token: token = '' }: RedeliverRequest): Promise<Redelivered> {
    const filters = [tenant, endpointId, since, until];
    const query = { tenant, dead: true, ...(since !== undefined && { since: Date.parse(since) }), ...(until !== undefined && { until: Date.parse(until) }) };
    let next = token === '' ? undefined : readPageToken(token, filters, deliveryIdForm, '#/page_token')[0];
    let [redelivered, seen] = [0, 0];
    do {
      const limit = Math.min(redeliveredAtOnce, webhookLimits.redeliveries - redelivered);
      const page = await this.list({ ...query, matches: (delivery) => goesTo(delivery, endpointId), after: next, limit });
      redelivered += (await this.#store.redeliver(page.deliveries).catch(rethrowUnavailable)).length;
      seen += page.seen;
      next = page.next;
    } while (next !== undefined && seen < webhookLimits.redeliveries);
    return { redelivered, complete: next === undefined, next_page_token: next === undefined ? '' : writePageToken(next, filters) };
  }
}

/** Whether it goes to the endpoint; without one, any does. */
export function goesTo({ target }: DeliveryRecord, endpointId: string | undefined): boolean {
  return endpointId === undefined || (target.kind === 'webhook' && target.endpointId === endpointId);
}
