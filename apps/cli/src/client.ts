// The API from the outside: what a user's own client would do.
import type { Model, ModelList, Prediction, PredictionRequest, Problem } from '@millrace/protocol';

/** The API refused, or cannot be reached (`status` 0). */
export class ClientError extends Error {
  override readonly name = 'ClientError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

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
    let prediction = await this.#json<Prediction>('/api/v1/predictions', {
      method: 'POST',
      headers: { 'content-type': 'application/json', prefer: `wait=${waitSeconds}` },
      body: JSON.stringify(request),
    });
    const deadline = Date.now() + waitSeconds * 1000;
    while ((prediction.status === 'queued' || prediction.status === 'running') && Date.now() < deadline) {
      prediction = await this.#json<Prediction>(`${prediction.urls.get}?wait=${waitSeconds}`);
    }
    return prediction;
  }

  async #json<Body>(path: string, init: { method?: string; headers?: Record<string, string>; body?: string } = {}): Promise<Body> {
    const response = await fetch(this.#url + path, { ...init, headers: { ...init.headers, ...this.#headers } }).catch(({ message, cause }: Error) => {
      throw new ClientError(0, `${this.#url} cannot be reached: ${cause instanceof Error ? cause.message : message}. Is \`millrace up\` running?`);
    });
    if (!response.ok) throw new ClientError(response.status, await problemText(response));
    return await response.json() as Body;
  }
}

async function problemText(response: Response): Promise<string> {
  const text = await response.text();
  if (!response.headers.get('content-type')?.includes('problem+json')) return `${response.status}: ${text}`;
  const { title, detail, errors = [] } = JSON.parse(text) as Problem;
  return [`${title}: ${detail}`, ...errors.map((fault) => `  ${fault.pointer}: ${fault.detail}`)].join('\n');
}
