// Clients of the API, and the book they keep: every prediction that was acknowledged, and every result they were shown.
import { isOutcome, type Prediction, type PredictionBatch } from '@millrace/protocol';
import type { Case } from './cases.ts';

/** A prediction that the API has said to be safe. */
export interface Accepted {
  readonly id: string;
  readonly asked: Case;
  /** Results that a client has been shown. */
  readonly seen: Prediction[];
  /** Whether its cancellation was confirmed; `unknown` where the answer to it got lost. */
  cancel: 'not asked' | 'confirmed' | 'unknown';
  /** Whether the API has said that there is no such prediction. */
  denied: boolean;
}

interface Served {
  readonly sentAt: number;
  readonly answeredAt: number;
}

const answerMs = 30_000;

export class Client {
  readonly accepted = new Map<string, Accepted>();
  /** Ids that were given to two predictions. */
  readonly repeated: string[] = [];
  /** Answered with an error: not accepted. */
  refused = 0;
  readonly #url: string;
  readonly #webhook: { readonly url: string } | undefined;
  readonly #served: Served[] = [];

  /** `webhookUrl`: where every prediction's end is to be told. */
  constructor(url: string, webhookUrl?: string) {
    this.#url = `${url}/api/v1/predictions`;
    this.#webhook = webhookUrl === undefined ? undefined : { url: webhookUrl };
  }

  /** Submits a prediction, and with `waitSeconds` waits for its result; undefined where it was refused. */
  async post({ asked, waitSeconds = 0 }: { asked: Case; waitSeconds?: number }): Promise<Accepted | undefined> {
    const sentAt = performance.now();
    const { status, body } = await this.#send('', this.#request(asked), waitSeconds > 0 ? { prefer: `wait=${waitSeconds}` } : {});
    if (status >= 300) return this.#refuse();
    const prediction = body as Prediction;
    if (prediction.status === 'succeeded') this.#served.push({ sentAt, answeredAt: performance.now() });
    return this.#accept(prediction, asked);
  }

  async postBatch(all: readonly Case[]): Promise<void> {
    const { status, body } = await this.#send(':batch', { requests: all.map((asked) => this.#request(asked)) });
    if (status >= 300) return void all.map(() => this.#refuse());
    for (const { index, prediction } of (body as PredictionBatch).results) {
      if (prediction) this.#accept(prediction, all[index] as Case);
      else this.#refuse();
    }
  }

  async cancel(accepted: Accepted): Promise<void> {
    accepted.cancel = 'unknown';
    const { status, body } = await this.#send(`/${accepted.id}/cancel`, {});
    if (status === 200) accepted.cancel = 'confirmed';
    if (status === 409) accepted.cancel = 'not asked';
    this.#note(accepted, status, body as Prediction);
  }

  /** The prediction as JSON text, once it has a result; undefined where it has none within the time, or nobody can tell. */
  async read(accepted: Accepted, waitSeconds: number): Promise<string | undefined> {
    const { status, body, text } = await this.#send(`/${accepted.id}?wait=${waitSeconds}`);
    return this.#note(accepted, status, body as Prediction) ? text : undefined;
  }

  /** When the first request that left after this moment, and waited for its result, had it. */
  servedAfter(moment: number): number | undefined {
    const after = this.#served.filter(({ sentAt }) => sentAt >= moment).map(({ answeredAt }) => answeredAt);
    return after.length > 0 ? Math.min(...after) : undefined;
  }

  #request({ model, inputs }: Case): object {
    return { model, inputs, ...(this.#webhook && { webhook: this.#webhook }) };
  }

  #refuse(): undefined {
    this.refused++;
  }

  #accept(prediction: Prediction, asked: Case): Accepted {
    const accepted: Accepted = { id: prediction.id, asked, seen: [], cancel: 'not asked', denied: false };
    if (this.accepted.has(prediction.id)) this.repeated.push(prediction.id);
    this.accepted.set(prediction.id, accepted);
    this.#note(accepted, 200, prediction);
    return accepted;
  }

  /** Writes down what was shown of an accepted prediction; whether it has ended. */
  #note(accepted: Accepted, status: number, prediction: Prediction): boolean {
    if (status === 404 || status === 410) accepted.denied = true;
    if (status !== 200 || !isOutcome(prediction.status)) return false;
    accepted.seen.push(prediction);
    return true;
  }

  /** Rejects where no answer comes. */
  async #send(where: string, body?: unknown, headers: Record<string, string> = {}): Promise<{ status: number; body: unknown; text: string }> {
    const response = await fetch(this.#url + where, {
      signal: AbortSignal.timeout(answerMs),
      ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body), headers: { 'content-type': 'application/json', ...headers } }),
    });
    const text = await response.text();
    return { status: response.status, body: JSON.parse(text) as unknown, text };
  }
}
