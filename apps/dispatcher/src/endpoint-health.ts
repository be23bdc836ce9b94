// How registered endpoints fare: since when nothing arrives, and when one should not be called any more.
import type { Verdict } from '@millrace/delivery';
import type { Logger } from '@millrace/process';
import { bodyOf } from '@millrace/protocol';
import type { DeliveryRecord, EndpointStore, KnownEndpoint, NewDelivery } from '@millrace/queue';

export interface HealthKeeperOptions {
  readonly endpoints: EndpointStore;
  /** Nothing but failures for so long disables an endpoint. */
  readonly disableMs: number;
  /** Takes on what others are told of it. */
  readonly deliver: (deliveries: readonly NewDelivery[]) => Promise<void>;
  /** Told when an endpoint has changed. */
  readonly onChange: (tenant: string) => void;
  readonly log: Logger;
}

export class HealthKeeper {
  readonly #options: HealthKeeperOptions;

  constructor(options: HealthKeeperOptions) {
    this.#options = options;
  }

  /** Writes what an attempt says of its endpoint, where that changes anything. */
  async note({ endpoint, health }: KnownEndpoint, { createdAt }: DeliveryRecord, verdict: Verdict): Promise<void> {
    const { endpoints, disableMs, onChange, log } = this.#options;
    const now = Date.now();
    const { failingSince = now } = health;
    if (verdict === 'delivered' && health.failingSince === undefined) return;
    const reason = verdict === 'gone' ? 'gone' : verdict === 'retry' && now - failingSince >= disableMs ? 'failing' : undefined;
    if (verdict === 'retry' && reason === undefined && health.failingSince !== undefined) return;
    // Told first: whoever dies in between finds it not disabled, and tells the same event again.
    if (reason) await this.#tell(endpoint, health.failingSince ?? createdAt, reason);
    // Another dispatcher, or its owner, may have disabled it meanwhile.
    await endpoints.changeHealth(endpoint, (known) => (known.disabled ? known : { ...(verdict !== 'delivered' && { failingSince }), ...(reason && { disabled: { at: now, reason } }) }));
    onChange(endpoint.tenant);
    if (reason) log.warn({ endpointId: endpoint.id, tenant: endpoint.tenant, reason }, 'endpoint disabled');
  }

  async #tell({ id, tenant, url }: KnownEndpoint['endpoint'], since: number, reason: string): Promise<void> {
    const { endpoints, deliver } = this.#options;
    const told = (await endpoints.list(tenant)).filter(({ endpoint, health }) => endpoint.id !== id && endpoint.events.includes('endpoint.disabled') && !health.disabled);
    const body = bodyOf('endpoint.disabled', Date.now(), { endpoint_id: id, url, reason });
    await deliver(told.map(({ endpoint }) => ({
      tenant, event: 'endpoint.disabled', eventId: `evt_${id}_disabled_${since}`, at: since, body, target: { kind: 'webhook', url: endpoint.url, endpointId: endpoint.id },
    })));
  }
}
