// Plays the scale subresource of Deployments as Kubernetes' API server serves it: paths, tokens, objects, failures.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { createAuthority } from './certificates.ts';

const account = 'system:serviceaccount:ml:mill';

export interface Refused {
  readonly status: number;
  readonly reason: string;
  readonly message: string;
}

/** As the API server's Status objects tell them. */
export const refusals = {
  unauthorized: { status: 401, reason: 'Unauthorized', message: 'Unauthorized' },
  forbidden: { status: 403, reason: 'Forbidden', message: `deployments.apps "workers" is forbidden: User "${account}" cannot patch resource "deployments/scale" in API group "apps" in the namespace "ml"` },
  missing: { status: 404, reason: 'NotFound', message: 'deployments.apps "workers" not found' },
  conflict: { status: 409, reason: 'Conflict', message: 'Operation cannot be fulfilled on deployments.apps "workers": the object has been modified; please apply your changes to the latest version and try again' },
  gone: { status: 410, reason: 'Expired', message: 'the provided resource version is too old' },
  media: { status: 415, reason: 'UnsupportedMediaType', message: 'the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json' },
  overloaded: { status: 429, reason: 'TooManyRequests', message: 'Too many requests, please try again later.' },
} as const satisfies Record<string, Refused>;

export class ScaleServer {
  readonly replicas = new Map<string, number>();
  /** Numbers that were ordered, one after the other. */
  readonly ordered: number[] = [];
  /** Requests so far, answered or not. */
  calls = 0;
  token = 'token-1';
  /** What the next requests with this method get; `hang` never ends. */
  answer: { readonly method: string; readonly with: Refused | 'hang' | 'cut' | 'no json' } | undefined;
  readonly #authority = createAuthority('kubernetes');
  readonly #server = createServer(this.#authority.issue(), (request, response) => { void this.#serve(request, response); });

  async start(): Promise<void> {
    await new Promise<void>((resolve) => { this.#server.listen(0, '127.0.0.1', resolve); });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise<unknown>((resolve) => { this.#server.close(resolve); });
  }

  get url(): string {
    return `https://localhost:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Writes the files that a pod of the service account finds. */
  async mount(folder: string): Promise<void> {
    await Promise.all(Object.entries({ token: this.token, 'ca.crt': this.#authority.cert, namespace: 'ml' }).map(([name, text]) => writeFile(path.join(folder, name), `${text}\n`)));
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.calls++;
    const body = (await request.setEncoding('utf8').toArray()).join('');
    const { method = '', url = '', headers } = request;
    const given = this.answer?.method === method ? this.answer.with : undefined;
    if (given === 'hang') return;
    if (given === 'cut') {
      response.writeHead(200, { 'content-type': 'application/json', 'content-length': 1000 }).write('{"kind":');
      response.destroy();
      return;
    }
    if (given === 'no json') {
      response.writeHead(502, { 'content-type': 'text/html' }).end('<html>Bad gateway</html>');
      return;
    }
    const name = /^\/apis\/apps\/v1\/namespaces\/ml\/deployments\/([^/]+)\/scale$/.exec(url)?.[1] ?? '';
    if (headers.authorization !== `Bearer ${this.token}`) return refuse(response, refusals.unauthorized);
    if (given) return refuse(response, given);
    if (!this.replicas.has(name)) return refuse(response, refusals.missing);
    if (method === 'PATCH') {
      if (headers['content-type'] !== 'application/merge-patch+json') return refuse(response, refusals.media);
      const { spec: { replicas } } = JSON.parse(body) as { spec: { replicas: number } };
      this.replicas.set(name, replicas);
      this.ordered.push(replicas);
    }
    reply(response, 200, scaleOf(name, this.replicas.get(name) as number));
  }
}

/** autoscaling/v1 Scale; numbers that are zero are left out, as Go does. */
function scaleOf(name: string, replicas: number): object {
  return {
    kind: 'Scale', apiVersion: 'autoscaling/v1',
    metadata: { name, namespace: 'ml', uid: '1f9d8a54-0d6d-4b1c-9c36-3a0f1c1c9c0e', resourceVersion: '41', creationTimestamp: '2026-01-01T00:00:00Z' },
    spec: replicas === 0 ? {} : { replicas }, status: { replicas, selector: 'app.kubernetes.io/component=worker' },
  };
}

function refuse(response: ServerResponse, { status, reason, message }: Refused): void {
  reply(response, status, { kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code: status });
}

function reply(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
