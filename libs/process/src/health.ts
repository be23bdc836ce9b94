// Health and metrics over HTTP, for processes that serve nothing else.
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Registry } from './metrics.ts';

/** What must hold for the process to do its work. Throws or rejects with the reason where it does not. */
export type Checks = Readonly<Record<string, () => unknown>>;

export interface HealthReport {
  readonly status: 'ok' | 'unavailable';
  readonly checks: Record<string, { ok: boolean; detail?: string }>;
}

/** Runs every check; one that takes longer than 2 s has failed. */
export async function runChecks(checks: Checks): Promise<HealthReport> {
  const results = await Promise.all(Object.entries(checks).map(async ([name, check]) => {
    try {
      await Promise.race([check(), failAfter(2000)]);
      return [name, { ok: true }] as const;
    } catch (error) {
      return [name, { ok: false, detail: error instanceof Error ? error.message : String(error) }] as const;
    }
  }));
  const ok = results.every(([, result]) => result.ok);
  return { status: ok ? 'ok' : 'unavailable', checks: Object.fromEntries(results) };
}

async function failAfter(ms: number): Promise<never> {
  await new Promise((resolve) => { setTimeout(resolve, ms).unref(); });
  throw new Error(`no answer within ${ms} ms`);
}

/** Serves `/healthz` (the process answers), `/readyz` (its checks hold) and `/metrics`. Port 0 picks a free one. */
export async function serveHealth(options: { host: string; port: number; checks: Checks; registry: Registry }): Promise<{ port: number; stop: () => void }> {
  const server = createServer((request, response) => {
    void answer(request.url ?? '/', options).then(({ status, type, body }) => {
      response.writeHead(status, { 'content-type': type }).end(body);
    });
  });
  await listen(server, options.host, options.port);
  const stop = () => {
    server.close();
    server.closeAllConnections();
  };
  return { port: (server.address() as AddressInfo).port, stop };
}

async function answer(url: string, { checks, registry }: { checks: Checks; registry: Registry }): Promise<{ status: number; type: string; body: string }> {
  const json = 'application/json';
  switch (url.split('?')[0]) {
    case '/healthz':
      return { status: 200, type: json, body: '{"status":"ok","checks":{}}' };
    case '/readyz': {
      const report = await runChecks(checks);
      return { status: report.status === 'ok' ? 200 : 503, type: json, body: JSON.stringify(report) };
    }
    case '/metrics':
      return { status: 200, type: registry.contentType, body: await registry.metrics() };
    default:
      return { status: 404, type: json, body: '{"status":"not found"}' };
  }
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
}
