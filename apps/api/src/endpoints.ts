// A tenant's webhook endpoints, and the secrets that sign what is sent to it.
import { randomUUID } from 'node:crypto';
import { newSecret } from '@millrace/delivery';
import { bodyOf, defaultEvents, type FaultList, MillraceError, type NewWebhookEndpoint, type WebhookEndpointPatch, webhookLimits } from '@millrace/protocol';
import { type DeliveryRecord, type DeliveryStore, type EndpointStore, type KnownEndpoint, rethrowUnavailable, type Secrets } from '@millrace/queue';
import type { Targets } from './targets.ts';

export interface EndpointsOptions {
  readonly store: EndpointStore;
  readonly deliveries: DeliveryStore;
  readonly targets: Targets;
}

/** All of it may throw `queue-unavailable`; what takes an id, `not-found`; what takes faults, `invalid-webhook` with every fault. */
export class Endpoints {
  readonly #options: EndpointsOptions;

  constructor(options: EndpointsOptions) {
    this.#options = options;
  }

  /** Oldest first. */
  async list(tenant: string): Promise<KnownEndpoint[]> {
    return this.#options.store.list(tenant).catch(rethrowUnavailable);
  }

  async find(id: string, tenant: string): Promise<KnownEndpoint> {
    return found(await this.#options.store.find(id, tenant).catch(rethrowUnavailable));
  }

  /** `faults`: what was found before in a request that may not have the schema's form. */
  async create(wanted: Partial<NewWebhookEndpoint>, tenant: string, faults: FaultList): Promise<KnownEndpoint> {
    const { store, targets } = this.#options;
    await targets.check(wanted.url, faults, '#/url');
    if (faults.faults.length > 0) throw invalid(faults);
    const { url, description = '', events = [...defaultEvents.prediction], payload = 'thin' } = wanted as NewWebhookEndpoint;
    const most = webhookLimits.endpoints;
    const endpoint = await store.create({ tenant, url, description, events, payload }, newSecret(), { createdAt: Date.now(), most }).catch(rethrowUnavailable);
    if (endpoint) return { endpoint, health: {} };
    faults.add('#', `there are ${most} endpoints already, which is the most: delete one first`);
    throw invalid(faults);
  }

  async patch(id: string, tenant: string, { enabled, ...members }: WebhookEndpointPatch, faults: FaultList): Promise<KnownEndpoint> {
    const { store, targets } = this.#options;
    const { health } = await this.find(id, tenant);
    await targets.check(members.url, faults, '#/url');
    if (faults.faults.length > 0) throw invalid(faults);
    const endpoint = found(await store.change(id, tenant, (before) => ({ ...before, ...members })).catch(rethrowUnavailable));
    if (enabled === undefined) return { endpoint, health };
    const disabled = { at: Date.now(), reason: 'request' } as const;
    return { endpoint, health: await store.changeHealth(endpoint, (before) => ({ ...before, disabled: before.disabled?.reason === 'request' ? before.disabled : disabled })).catch(rethrowUnavailable) };
  }

  async enable(id: string, tenant: string): Promise<KnownEndpoint> {
    const { endpoint } = await this.find(id, tenant);
    return { endpoint, health: await this.#options.store.changeHealth(endpoint, () => ({})).catch(rethrowUnavailable) };
  }

  async remove(id: string, tenant: string): Promise<void> {
    const { endpoint } = await this.find(id, tenant);
    await this.#options.store.remove(endpoint).catch(rethrowUnavailable);
  }

  async rotate(id: string, tenant: string): Promise<Secrets> {
    const now = Date.now();
    return found(await this.#options.store.change(id, tenant, (before) => ({ ...before, secrets: rotated(before.secrets, now) })).catch(rethrowUnavailable)).secrets;
  }

  /** What signs the webhooks that the tenant's requests name. */
  async tenantSecrets(tenant: string): Promise<Secrets> {
    return this.#options.store.tenantSecrets(tenant, newSecret).catch(rethrowUnavailable);
  }

  async rotateTenantSecrets(tenant: string): Promise<Secrets> {
    const now = Date.now();
    return this.#options.store.changeTenantSecrets(tenant, (before) => rotated(before, now)).catch(rethrowUnavailable);
  }

  /** Sends it an event `endpoint.test`, also where it is disabled. */
  async test(id: string, tenant: string): Promise<DeliveryRecord> {
    const { endpoint: { url } } = await this.find(id, tenant);
    const at = Date.now();
    const [delivery] = await this.#options.deliveries.add([{
      tenant, at, event: 'endpoint.test', eventId: `evt_${id}_test_${randomUUID()}`, target: { kind: 'webhook', url, endpointId: id },
      body: bodyOf('endpoint.test', at, { endpoint_id: id, url }),
    }]).catch(rethrowUnavailable);
    return delivery as DeliveryRecord;
  }
}

function rotated(before: Secrets | undefined, now: number): Secrets {
  return { current: newSecret(), ...(before && { old: { secret: before.current, until: now + 1000 * webhookLimits.rotationSeconds } }) };
}

function found<Value>(known: Value | undefined): Value {
  if (known === undefined) throw new MillraceError('not-found', 'There is no such webhook endpoint');
  return known;
}

function invalid({ faults }: FaultList): MillraceError {
  const count = faults.length === 1 ? 'one fault' : `${faults.length} faults`;
  return new MillraceError('invalid-webhook', `The webhook endpoint has ${count}`, { faults });
}
