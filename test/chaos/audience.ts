// Those who are told of results: a receiver that dies and comes back at the same port, and the book that it keeps. It is told
// of each prediction twice: as the webhook that the request names, and as a registered endpoint.
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Service, type ServiceLog } from '@millrace/process';
import type { DeliveryPage, WebhookSecret } from '@millrace/protocol';
import { freePort } from '../integration/free-port.ts';

/** A line of the receiver's book. */
export interface Told {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly path: string;
  /** The header `webhook-id`. */
  readonly id: string;
  readonly event: string;
  readonly predictionId: string;
  /** Whether the signature was right. */
  readonly verified: boolean;
}

export const paths = { request: '/request', endpoint: '/endpoint' } as const;

export class Audience {
  readonly receiver: Service;
  /** What requests name. */
  readonly url: string;
  readonly #api: string;
  readonly #folder: string;

  private constructor(receiver: Service, url: string, api: string, folder: string) {
    this.receiver = receiver;
    this.url = url;
    this.#api = api;
    this.#folder = folder;
  }

  /** Resolves once it listens and everybody knows of it. */
  static async start(apiUrl: string, hear: ServiceLog): Promise<Audience> {
    const [port, folder] = [await freePort(), await mkdtemp(path.join(tmpdir(), 'millrace-chaos-'))];
    const [api, place] = [`${apiUrl}/api/v1`, `http://127.0.0.1:${port}`];
    const { secret } = await ask<WebhookSecret>(`${api}/webhook-secret`);
    const endpoint = await ask<{ readonly secret: string }>(`${api}/webhook-endpoints`, { url: place + paths.endpoint });
    const secrets = JSON.stringify({ [paths.request]: secret, [paths.endpoint]: endpoint.secret });
    writeFileSync(bookIn(folder), '');
    const args = [fileURLToPath(new URL('receiver.ts', import.meta.url)), String(port), bookIn(folder), secrets];
    const receiver = new Service({ name: 'receiver', args, env: process.env, readyMessage: 'receiver is ready', onLog: hear });
    await receiver.start();
    return new Audience(receiver, place + paths.request, api, folder);
  }

  /** What it has been told so far, in the order in which it came. */
  book(): Told[] {
    return readFileSync(bookIn(this.#folder), 'utf8').split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Told);
  }

  /** How many deliveries are recorded as this. */
  async deliveries(status: 'pending' | 'delivered' | 'dead'): Promise<number> {
    let count = 0;
    let token = '';
    do {
      const page = await ask<DeliveryPage>(`${this.#api}/deliveries?status=${status}&page_size=1000${token && `&page_token=${encodeURIComponent(token)}`}`);
      count += page.deliveries.length;
      token = page.next_page_token;
    } while (token !== '');
    return count;
  }

  async stop(): Promise<void> {
    await this.receiver.stop();
    await rm(this.#folder, { recursive: true, force: true });
  }
}

const bookIn = (folder: string) => path.join(folder, 'told');

async function ask<Body>(url: string, body?: object): Promise<Body> {
  const response = await fetch(url, body && { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`${url} answers ${response.status}: ${await response.text()}`);
  return await response.json() as Body;
}
