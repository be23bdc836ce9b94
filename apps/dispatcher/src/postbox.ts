// One attempt of a delivery: where it goes, what it is signed with, and what came of it.
import { type AttemptResult, type Sender, signatureOf } from '@millrace/delivery';
import type { Span, Tracer } from '@millrace/process';
import type { DisabledReason, ReplyMessage } from '@millrace/protocol';
import type { ClaimedDelivery, DeliveryRecord, EndpointStore, KnownEndpoint, ReplyQueues, Secrets } from '@millrace/queue';

export interface PostboxOptions {
  readonly sender: Sender;
  readonly replyQueues: ReplyQueues;
  readonly endpoints: EndpointStore;
  readonly tracer: Tracer | undefined;
  readonly newSecret: () => string;
  readonly version: string;
}

export type Outcome =
  | { readonly kind: 'tried'; readonly result: AttemptResult; readonly endpoint: KnownEndpoint | undefined }
  /** The endpoint has another URL by now, at another host. */
  | { readonly kind: 'moved'; readonly url: string }
  /** It is not to be tried any more. */
  | { readonly kind: 'pointless'; readonly reason: string };

/** What is known of endpoints and secrets may be this old. */
const freshMs = 1000;

export class Postbox {
  readonly #options: PostboxOptions;
  readonly #endpoints = new Map<string, Promise<KnownEndpoint[]>>();
  readonly #secrets = new Map<string, Promise<Secrets>>();

  constructor(options: PostboxOptions) {
    this.#options = options;
  }

  /** Rejects where Redis cannot be asked. */
  async send({ record, record: { tenant, target, event }, body, host }: ClaimedDelivery): Promise<Outcome> {
    if (target.kind === 'reply-queue') return this.#queue(tenant, target.queue, body);
    if (target.endpointId === undefined) {
      const secrets = await remembered(this.#secrets, tenant, () => this.#options.endpoints.tenantSecrets(tenant, this.#options.newSecret));
      return { kind: 'tried', result: await this.#post(target.url, record, body, secrets), endpoint: undefined };
    }
    const endpoint = await this.#endpoint(tenant, target.endpointId);
    if (!endpoint) return { kind: 'pointless', reason: 'The endpoint was deleted' };
    if (endpoint.health.disabled && event !== 'endpoint.test') return { kind: 'pointless', reason: whyDisabled[endpoint.health.disabled.reason] };
    const { url, secrets } = endpoint.endpoint;
    if (new URL(url).origin !== host) return { kind: 'moved', url };
    return { kind: 'tried', result: await this.#post(url, record, body, secrets), endpoint };
  }

  /** To be called when an endpoint's health was written. */
  forget(tenant: string): void {
    this.#endpoints.delete(tenant);
  }

  /** Only what was read just now can say that it is gone or disabled. */
  async #endpoint(tenant: string, id: string): Promise<KnownEndpoint | undefined> {
    const find = async () => (await remembered(this.#endpoints, tenant, () => this.#options.endpoints.list(tenant))).find(({ endpoint }) => endpoint.id === id);
    const known = await find();
    if (known && !known.health.disabled) return known;
    this.forget(tenant);
    return find();
  }

  async #post(url: string, record: DeliveryRecord, body: string, { current, old }: Secrets): Promise<AttemptResult> {
    const { eventId: id } = record;
    const timestamp = Math.floor(Date.now() / 1000);
    const secrets = old && old.until > Date.now() ? [current, old.secret] : [current];
    const span = this.#trace(url, record);
    const result = await this.#options.sender.attempt({
      url, body,
      headers: {
        'content-type': 'application/json', 'user-agent': `Millrace/${this.#options.version}`,
        'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signatureOf(id, timestamp, body, secrets),
        ...span?.headers,
      },
    });
    if (result.kind === 'answered') span?.end({ attributes: { 'http.response.status_code': result.status }, error: result.status >= 400 ? String(result.status) : undefined });
    else span?.end({ error: result.reason });
    return result;
  }

  /** One attempt, in the trace of the prediction that it tells of. The URL's path and query stay out: they may hold secrets. */
  #trace(url: string, { trace, tries, event }: DeliveryRecord): Span | undefined {
    if (!trace) return undefined;
    const { hostname, port, protocol } = new URL(url);
    return this.#options.tracer?.start('POST', {
      kind: 'client', parent: trace,
      attributes: {
        'http.request.method': 'POST', 'server.address': hostname, 'server.port': Number(port) || (protocol === 'https:' ? 443 : 80), 'url.scheme': protocol.slice(0, -1),
        'http.request.resend_count': tries, 'millrace.event': event,
      },
    });
  }

  async #queue(tenant: string, queue: string, body: string): Promise<Outcome> {
    const startedAt = performance.now();
    const data = JSON.parse(body, keepDigits) as ReplyMessage;
    const fault = await this.#options.replyQueues.add(tenant, queue, { id: data.id, name: data.type, data });
    const durationMs = performance.now() - startedAt;
    const result: AttemptResult = fault === undefined ? { kind: 'answered', status: 200, durationMs, excerpt: '' } : { kind: 'refused', reason: fault, durationMs };
    return { kind: 'tried', result, endpoint: undefined };
  }
}

/** BullMQ writes the data as JSON again: integers beyond 2^53 stay the text that they were. */
function keepDigits(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  return typeof value === 'number' && !Number.isSafeInteger(value) && context?.source !== undefined ? JSON.rawJSON(context.source) : value;
}

const whyDisabled: Readonly<Record<DisabledReason, string>> = {
  request: 'The endpoint was disabled',
  gone: 'The endpoint was disabled: it answered 410 Gone',
  failing: 'The endpoint was disabled: nothing arrived there for too long',
};

/** What `read` gave lately for the key; what was rejected is not kept. */
function remembered<Value>(known: Map<string, Promise<Value>>, key: string, read: () => Promise<Value>): Promise<Value> {
  const lately = known.get(key);
  if (lately) return lately;
  const reading = read();
  known.set(key, reading);
  const forget = () => { if (known.get(key) === reading) known.delete(key); };
  reading.catch(forget);
  setTimeout(forget, freshMs).unref();
  return reading;
}
