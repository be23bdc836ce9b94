// The API from the outside: what a user's own client would do.
import type {
  Backfill, BackfillPage, BackfillRequest, BackfillState, BackfillWish, Delivery, DeliveryPage, DeliveryState, Model, ModelList, NewWebhookEndpoint, Prediction, PredictionBatch, PredictionRequest, Problem, Redelivered, RedeliverRequest, WebhookEndpoint, WebhookSecret,
} from '@millrace/protocol';

/** The API refused, or cannot be reached (`status` 0). */
export class ClientError extends Error {
  override readonly name = 'ClientError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

interface Init {
  readonly method?: string;
  readonly headers?: Record<string, string>;
  readonly body?: string;
}

/** As the API calls them. */
export interface DeliveryFilters {
  readonly status?: DeliveryState;
  readonly endpoint_id?: string;
}

const mostListed = 1000;
/** Requests at once where many things are read. */
const readers = 16;

export class Client {
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;

  /** `url`: scheme, host and port. `key`: an API key, where the API asks for one. */
  constructor(url: string, key?: string) {
    this.#url = url.replace(/\/+$/, '');
    this.#headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
  }

  async models(): Promise<Model[]> {
    return (await this.#json<ModelList>('/api/v1/models')).models;
  }

  /** Submits a prediction and stays until it has ended. Throws `ClientError`. */
  async predict(request: PredictionRequest, waitSeconds: number): Promise<Prediction> {
    const prediction = await this.#json<Prediction>('/api/v1/predictions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', prefer: `wait=${waitSeconds}` },
      body: JSON.stringify(request),
    });
    return hasEnded(prediction) ? prediction : this.prediction(prediction.id, waitSeconds);
  }

  /** Up to a thousand at once; each is accepted or refused on its own. */
  async predictBatch(requests: readonly PredictionRequest[]): Promise<PredictionBatch> {
    return this.#post('/api/v1/predictions:batch', { requests });
  }

  /** Stays until it has ended, or for so long. */
  async prediction(id: string, waitSeconds: number): Promise<Prediction> {
    const deadline = Date.now() + waitSeconds * 1000;
    for (;;) {
      const prediction = await this.#json<Prediction>(`/api/v1/predictions/${encodeURIComponent(id)}?wait=${waitSeconds}`);
      if (hasEnded(prediction) || Date.now() >= deadline) return prediction;
    }
  }

  /** Of those of a batch that were accepted, in its order. */
  async ends({ results }: Pick<PredictionBatch, 'results'>, waitSeconds: number): Promise<Prediction[]> {
    const ends: Prediction[] = [];
    const rest = results.flatMap(({ prediction }) => (prediction ? [prediction.id] : [])).entries();
    await Promise.all(Array.from({ length: readers }, async () => {
      for (const [place, id] of rest) ends[place] = await this.prediction(id, waitSeconds);
    }));
    return ends;
  }

  async createBackfill(request: BackfillRequest): Promise<Backfill> {
    return this.#post('/api/v1/backfills', request);
  }

  async backfill(id: string): Promise<Backfill> {
    return this.#json(`/api/v1/backfills/${encodeURIComponent(id)}`);
  }

  /** The newest ones, at most so many. */
  async backfills({ limit = mostListed, ...filters }: { readonly status?: BackfillState; readonly limit?: number } = {}): Promise<Backfill[]> {
    const listed: Backfill[] = [];
    let token = '';
    do {
      const query = new URLSearchParams({ ...filters, page_size: String(limit - listed.length), page_token: token });
      const page = await this.#json<BackfillPage>(`/api/v1/backfills?${query.toString()}`);
      listed.push(...page.backfills);
      token = page.next_page_token;
    } while (token !== '' && listed.length < limit);
    return listed;
  }

  async askBackfill(id: string, wish: BackfillWish): Promise<Backfill> {
    return this.#json(`/api/v1/backfills/${encodeURIComponent(id)}/${wish}`, { method: 'POST' });
  }

  /** What signs the webhooks that predictions and backfills name. */
  async webhookSecret(): Promise<string> {
    return (await this.#json<WebhookSecret>('/api/v1/webhook-secret')).secret;
  }

  async createEndpoint(endpoint: NewWebhookEndpoint): Promise<WebhookEndpoint & { readonly secret: string }> {
    return this.#post('/api/v1/webhook-endpoints', endpoint);
  }

  async removeEndpoint(id: string): Promise<void> {
    await this.#fetch(`/api/v1/webhook-endpoints/${encodeURIComponent(id)}`, { method: 'DELETE' });
  }

  /** The newest ones, at most so many. */
  async deliveries({ limit, ...filters }: DeliveryFilters & { readonly limit: number }): Promise<Delivery[]> {
    const listed: Delivery[] = [];
    let token = '';
    do {
      const query = new URLSearchParams({ ...filters, page_size: String(limit - listed.length), page_token: token });
      const page = await this.#json<DeliveryPage>(`/api/v1/deliveries?${query.toString()}`);
      listed.push(...page.deliveries);
      token = page.next_page_token;
    } while (token !== '' && listed.length < limit);
    return listed;
  }

  async redeliver(id: string): Promise<Delivery> {
    return this.#json(`/api/v1/deliveries/${encodeURIComponent(id)}/redeliver`, { method: 'POST' });
  }

  async redeliverDead(request: RedeliverRequest): Promise<Redelivered> {
    return this.#post('/api/v1/deliveries:redeliver', request);
  }

  async #post<Body>(path: string, body: unknown): Promise<Body> {
    return this.#json(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  }

  async #json<Body>(path: string, init: Init = {}): Promise<Body> {
    return await (await this.#fetch(path, init)).json() as Body;
  }

  async #fetch(path: string, init: Init): Promise<Response> {
    const response = await fetch(this.#url + path, { ...init, headers: { ...init.headers, ...this.#headers } }).catch(({ message, cause }: Error) => {
      throw new ClientError(0, `${this.#url} cannot be reached: ${cause instanceof Error ? cause.message : message}. Is \`millrace up\` running?`);
    });
    if (!response.ok) throw new ClientError(response.status, await problemText(response));
    return response;
  }
}

function hasEnded({ status }: Prediction): boolean {
  return status !== 'queued' && status !== 'running';
}

async function problemText(response: Response): Promise<string> {
  const text = await response.text();
  if (!response.headers.get('content-type')?.includes('problem+json')) return `${response.status}: ${text}`;
  return problemLines(JSON.parse(text) as Problem);
}

/** What went wrong, and below it where. */
export function problemLines({ title, detail, errors = [] }: Problem): string {
  return [`${title}: ${detail}`, ...errors.map((fault) => `  ${fault.pointer}: ${fault.detail}`)].join('\n');
}
