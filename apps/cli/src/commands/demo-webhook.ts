// The demo's second part: a result that comes by itself, to a receiver that fails twice first.
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';
import type { PredictionRequest } from '@millrace/protocol';
import type { Client } from '../client.ts';

/** Delays between attempts, seconds: in production they are 5 s, 5 min and so on (MILLRACE_WEBHOOK_RETRY_SECONDS). */
export const demoRetrySeconds = '1,2,3';

interface Attempt {
  readonly at: number;
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly text: string;
}

const failures = 2;
const patienceMs = 30_000;

/** Makes a prediction with a webhook to a receiver of its own; true where the webhook arrived and its signature verifies. */
export async function demoWebhook(client: Client, request: PredictionRequest, out: NodeJS.WriteStream): Promise<boolean> {
  const attempts: Attempt[] = [];
  const arrived = Promise.withResolvers<boolean>();
  const patience = setTimeout(() => arrived.resolve(false), patienceMs);
  const server = createServer((incoming, response) => {
    let text = '';
    incoming.setEncoding('utf8').on('data', (part: string) => { text += part; }).on('end', () => {
      const status = attempts.length < failures ? 500 : 204;
      attempts.push({ at: performance.now(), status, headers: incoming.headers, text });
      response.writeHead(status).end(() => { if (status === 204) arrived.resolve(true); });
    });
  });
  const url = await listen(server);
  try {
    out.write(`One more, with a webhook to ${url}, where a receiver fails ${failures} times first:\n\n`);
    const secret = await client.webhookSecret();
    await client.predict({ ...request, webhook: { url } }, 0);
    const came = await arrived.promise;
    out.write(`${attempts.map((attempt, index) => lineOf(attempt, attempts[index - 1], secret)).join('\n')}\n`);
    const ids = [...new Set(attempts.map(({ headers }) => String(headers['webhook-id'])))];
    out.write(`\n  webhook-id  ${ids.join(', ')}\n  body        ${attempts.at(-1)?.text ?? ''}\n\n`);
    return came && ids.length === 1 && attempts.every((attempt) => isSigned(attempt, secret));
  } finally {
    clearTimeout(patience);
    server.closeAllConnections();
    server.close();
  }
}

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
}

function lineOf(attempt: Attempt, before: Attempt | undefined, secret: string): string {
  const when = before ? `after ${((attempt.at - before.at) / 1000).toFixed(1)} s` : 'at once';
  return `  attempt ${when.padEnd(12)} signature ${isSigned(attempt, secret) ? 'verified' : 'WRONG'}, answered ${attempt.status}`;
}

function isSigned({ text, headers }: Attempt, secret: string): boolean {
  try {
    new Webhook(secret).verify(text, headers as Record<string, string>);
    return true;
  } catch {
    return false;
  }
}
