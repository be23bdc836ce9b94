// Workers of Kubernetes Deployments: their number is read and set through the scale subresource, which needs no other right.
// https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/deployment-v1/
import { readFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import path from 'node:path';
import type { Actuator } from './actuator.ts';

export interface DeploymentsOptions {
  /** Of the API server. */
  readonly url: string;
  /** Folder with `token`, `ca.crt` and `namespace`, as Kubernetes mounts it into pods. */
  readonly account: string;
  /** The Deployment of each pool's workers. */
  readonly names: ReadonlyMap<string, string>;
  readonly timeoutMs: number;
  /** Live workers of a pool that has no Deployment here: another scales it. */
  readonly elsewhere: (pool: string) => Promise<number>;
}

/** What of autoscaling/v1 Scale is used. */
interface Scale {
  readonly spec?: { readonly replicas?: number };
}

/** The API server's answer was another than what was asked for. */
export class KubernetesError extends Error {
  override readonly name = 'KubernetesError';
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export class Deployments implements Actuator {
  readonly #options: DeploymentsOptions;
  readonly #agent = new Agent({ keepAlive: true });

  constructor(options: DeploymentsOptions) {
    this.#options = options;
  }

  async observed(pool: string): Promise<number> {
    const name = this.#options.names.get(pool);
    return name === undefined ? this.#options.elsewhere(pool) : replicasOf(await this.#call('GET', name));
  }

  /** Whoever else changed the number has changed it until the next poll. */
  async scale(pool: string, desired: number): Promise<void> {
    const name = this.#options.names.get(pool);
    if (name === undefined || replicasOf(await this.#call('GET', name)) === desired) return;
    await this.#call('PATCH', name, { spec: { replicas: desired } });
  }

  /** The workers are the Deployment's, whoever scales it. */
  standBy(): Promise<void> {
    return Promise.resolve();
  }

  stop(): Promise<void> {
    this.#agent.destroy();
    return Promise.resolve();
  }

  async #call(method: 'GET' | 'PATCH', name: string, patch?: object): Promise<Scale> {
    const { url, account, timeoutMs } = this.#options;
    // Read each time: Kubernetes replaces the files before they expire, within the hour.
    const [token, ca, namespace] = await Promise.all(['token', 'ca.crt', 'namespace'].map(async (file) => (await readFile(path.join(account, file), 'utf8')).trim()));
    const { status, body } = await exchange(new URL(`/apis/apps/v1/namespaces/${namespace}/deployments/${name}/scale`, url), {
      method, ca, agent: this.#agent, signal: AbortSignal.timeout(timeoutMs),
      headers: { authorization: `Bearer ${token}`, accept: 'application/json', ...(patch && { 'content-type': 'application/merge-patch+json' }) },
    }, patch && JSON.stringify(patch));
    if (status !== 200) throw new KubernetesError(status, `Kubernetes answered ${status} for the Deployment ${name}: ${reasonOf(body)}`);
    return JSON.parse(body) as Scale;
  }
}

/** Kubernetes leaves out a number that is zero. */
function replicasOf({ spec }: Scale): number {
  return spec?.replicas ?? 0;
}

/** A failure is told by a Status object, and by whatever stands in between in its own form. */
function reasonOf(body: string): string {
  try {
    return (JSON.parse(body) as { message?: string }).message ?? 'no reason given';
  } catch {
    return 'no reason given';
  }
}

async function exchange(url: URL, options: Parameters<typeof request>[1], body: string | undefined): Promise<{ status: number; body: string }> {
  const { promise, resolve, reject } = Promise.withResolvers<{ status: number; body: string }>();
  const sent = request(url, options, (response) => {
    const parts: string[] = [];
    response.setEncoding('utf8').on('data', (part: string) => parts.push(part)).on('error', reject);
    response.on('end', () => resolve({ status: response.statusCode ?? 0, body: parts.join('') }));
  });
  sent.on('error', reject).end(body);
  return promise;
}
