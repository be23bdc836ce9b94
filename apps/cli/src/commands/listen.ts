// `millrace webhooks listen`: a receiver on this machine that verifies every webhook as a user's own would, and prints it.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { defaultEvents } from '@millrace/protocol';
import { Webhook } from 'standardwebhooks';
import { Client } from '../client.ts';
import { untilSignal } from '../signals.ts';
import type { ApiPlace } from './webhooks.ts';

export interface ListenOptions extends ApiPlace {
  /** 0 picks a free one. */
  readonly port: number;
  /** In place of the tenant's, which the API is asked for. */
  readonly secret?: string;
  /** How many webhooks that verify are answered with 500 first. */
  readonly fail: number;
  /** Makes an endpoint for this receiver, and removes it at the end. */
  readonly register?: boolean;
  readonly json?: boolean;
}

/** The body of a webhook that verifies. */
interface Payload {
  readonly type: string;
  readonly data: { readonly id?: string };
}

type Verdict = { readonly payload: Payload } | { readonly fault: string };

interface Received {
  readonly at: Date;
  readonly verdict: Verdict;
  /** The header `webhook-id`. */
  readonly eventId: string | undefined;
  /** The header `webhook-timestamp`: when the attempt was made. */
  readonly attemptedAt: Date | undefined;
  readonly status: number;
}

const host = '127.0.0.1';
/** Ten times what Millrace sends. */
const longestBody = 256 * 1024;

/** Listens until Ctrl-C. */
export async function listen({ url, key, port, secret, fail, register, json }: ListenOptions): Promise<void> {
  const stopped = untilSignal();
  const client = new Client(url, key);
  const ofRequests = new Webhook(secret ?? await client.webhookSecret());
  // The first webhook of an endpoint may be here before the answer that tells its secret.
  const verifiers = Promise.withResolvers<readonly Webhook[]>();
  let failures = fail;
  const answer = async (request: IncomingMessage, response: ServerResponse) => {
    const verdict = await receive(request, await verifiers.promise);
    const status = 'fault' in verdict ? 400 : failures-- > 0 ? 500 : 204;
    process.stdout.write(`${(json ? jsonOf : lineOf)(describe(request, verdict, status))}\n`);
    if ('fault' in verdict) response.writeHead(status, { 'connection': 'close', 'content-type': 'text/plain' }).end(`${verdict.fault}\n`);
    else response.writeHead(status).end();
  };

  const server = createServer((request, response) => { answer(request, response).catch(() => response.destroy()); });
  const here = await open(server, port);
  let endpointId: string | undefined;
  try {
    const endpoint = register ? await client.createEndpoint({ url: here, description: 'millrace webhooks listen', events: [...defaultEvents.prediction, ...defaultEvents.backfill] }) : undefined;
    endpointId = endpoint?.id;
    verifiers.resolve(endpoint ? [ofRequests, new Webhook(endpoint.secret)] : [ofRequests]);
    process.stderr.write(`Listening at ${here}${endpoint ? `, registered as ${endpoint.id}` : ''}. A prediction or backfill names it by "webhook": {"url": "${here}"}. Ctrl-C stops it.\n`);
    await stopped;
  } finally {
    server.close();
    server.closeAllConnections();
    if (endpointId !== undefined) await client.removeEndpoint(endpointId);
  }
}

/** Resolves with the URL. */
async function open(server: Server, port: number): Promise<string> {
  await new Promise<void>((resolve, reject) => { server.once('error', reject).listen(port, host, resolve); });
  return `http://${host}:${(server.address() as AddressInfo).port}/`;
}

async function receive(request: IncomingMessage, verifiers: readonly Webhook[]): Promise<Verdict> {
  if (request.method !== 'POST') return { fault: `it is a ${request.method}, not a POST` };
  const body: Buffer[] = [];
  let length = 0;
  for await (const part of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    if ((length += part.length) > longestBody) return { fault: `its body is longer than ${longestBody} bytes` };
    body.push(part);
  }
  return verify(Buffer.concat(body).toString(), request.headers as Record<string, string>, verifiers);
}

/** Where no secret fits, what the library says of the last one. */
function verify(text: string, headers: Record<string, string>, verifiers: readonly Webhook[]): Verdict {
  let fault = '';
  for (const verifier of verifiers) {
    try {
      return { payload: verifier.verify(text, headers) as Payload };
    } catch (error) {
      fault = error instanceof Error ? error.message : String(error);
    }
  }
  return { fault };
}

function describe({ headers }: IncomingMessage, verdict: Verdict, status: number): Received {
  const seconds = Number(headers['webhook-timestamp']);
  return {
    at: new Date(), verdict, status,
    eventId: headers['webhook-id']?.toString(),
    attemptedAt: Number.isSafeInteger(seconds) && Math.abs(seconds) < 8.64e12 ? new Date(1000 * seconds) : undefined,
  };
}

function lineOf({ at, verdict, eventId, attemptedAt, status }: Received): string {
  const { type, data } = 'payload' in verdict ? verdict.payload : { type: eventId ?? '-', data: {} };
  return [
    at.toISOString(), type, data.id ?? '-', 'fault' in verdict ? `NOT VERIFIED: ${verdict.fault}` : 'verified',
    `attempt of ${attemptedAt?.toISOString() ?? 'no time'}`, `answered ${status}`,
  ].map(printable).join('  ');
}

/** A header may hold what does something to a terminal. */
function printable(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, '?');
}

function jsonOf({ at, verdict, eventId, attemptedAt, status }: Received): string {
  const payload = 'payload' in verdict ? verdict.payload : null;
  const idOf = (object: string) => (payload?.type.startsWith(`${object}.`) ? payload.data.id ?? null : null);
  return JSON.stringify({
    received_at: at.toISOString(), event: payload?.type ?? null, event_id: eventId ?? null, prediction_id: idOf('prediction'), backfill_id: idOf('backfill'),
    verified: payload !== null, fault: 'fault' in verdict ? verdict.fault : null, attempted_at: attemptedAt?.toISOString() ?? null, status, payload,
  });
}
