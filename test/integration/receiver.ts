// A receiver of webhooks, as a user would write it: verifies each with the public library and keeps it.
import { createServer, type IncomingHttpHeaders, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';

export interface Received {
  readonly path: string;
  readonly id: string;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
  // Tests look into bodies freely; a wrong path fails the expectation.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly body: any;
}

export type Answering = (received: Received, count: number, response: ServerResponse) => number | 'answered';

export class Receiver {
  readonly url: string;
  readonly received: Received[] = [];
  /** What it answers: a status, for the nth request. */
  answer: Answering = () => 204;
  readonly #stop: () => Promise<void>;

  private constructor(url: string, stop: () => Promise<void>) {
    this.url = url;
    this.#stop = stop;
  }

  static async start(port = 0): Promise<Receiver> {
    const server = createServer((request, response) => { void receiver.#take(request, response); });
    await new Promise<void>((resolve) => { server.listen(port, '127.0.0.1', resolve); });
    const receiver: Receiver = new Receiver(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, async () => {
      server.closeAllConnections();
      await new Promise((resolve) => { server.close(resolve); });
    });
    return receiver;
  }

  stop(): Promise<void> {
    return this.#stop();
  }

  /** Those of one prediction. */
  of(predictionId: string): Received[] {
    return this.received.filter(({ body }) => body.data.id === predictionId);
  }

  async #take(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let text = '';
    for await (const part of request.setEncoding('utf8')) text += String(part);
    const received: Received = { path: request.url ?? '', id: String(request.headers['webhook-id']), headers: request.headers, text, body: JSON.parse(text) };
    this.received.push(received);
    const status = this.answer(received, this.received.length, response);
    if (status !== 'answered') response.writeHead(status).end();
  }
}

/** Throws where the signature is not right for this secret. */
export function verify(secret: string, { headers, text }: Received): void {
  new Webhook(secret).verify(text, headers as Record<string, string>);
}
