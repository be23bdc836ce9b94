// `millrace webhooks deliveries | redeliver`: what was told to whom, and telling it again.
import type { Delivery, DeliveryState } from '@millrace/protocol';
import { Client } from '../client.ts';

export interface ApiPlace {
  readonly url: string;
  readonly key?: string;
}

export interface DeliveriesOptions extends ApiPlace {
  readonly status?: DeliveryState;
  readonly endpoint?: string;
  readonly limit: number;
  readonly json?: boolean;
}

export interface RedeliverOptions extends ApiPlace {
  readonly endpoint?: string;
  /** Milliseconds since the epoch. */
  readonly since?: number;
}

/** Prints the newest deliveries, a line each. */
export async function deliveries({ url, key, status, endpoint, limit, json }: DeliveriesOptions): Promise<void> {
  const listed = await new Client(url, key).deliveries({ ...(status && { status }), ...(endpoint !== undefined && { endpoint_id: endpoint }), limit });
  if (json) {
    process.stdout.write(`${JSON.stringify(listed, null, 2)}\n`);
    return;
  }
  for (const delivery of listed) process.stdout.write(`${lineOf(delivery)}\n`);
  if (listed.length === 0) process.stderr.write('There is no such delivery.\n');
}

function lineOf({ id, created_at: at, status, event, prediction_id: predictionId, backfill_id: backfillId, url, reply_queue: queue, attempts }: Delivery): string {
  const last = attempts.at(-1);
  const came = last && (last.error ?? `answered ${last.status_code}`);
  return [at, id, status.padEnd('delivered'.length), event, predictionId ?? backfillId ?? '-', url ?? `queue ${queue}`, `${attempts.length} ${attempts.length === 1 ? 'attempt' : 'attempts'}${came === undefined ? '' : `, ${came}`}`].join('  ');
}

export async function redeliver(id: string, { url, key }: ApiPlace): Promise<void> {
  const { event } = await new Client(url, key).redeliver(id);
  process.stderr.write(`${id} (${event}) is on its way again.\n`);
}

/** Sends all dead ones again, in as many requests as it takes. */
export async function redeliverDead({ url, key, endpoint, since }: RedeliverOptions): Promise<void> {
  const client = new Client(url, key);
  const request = { ...(endpoint !== undefined && { endpoint_id: endpoint }), ...(since !== undefined && { since: new Date(since).toISOString() }) };
  let count = 0;
  let token = '';
  do {
    const { redelivered, next_page_token: next } = await client.redeliverDead({ ...request, ...(token !== '' && { page_token: token }) });
    count += redelivered;
    token = next;
  } while (token !== '');
  process.stderr.write(`${count} dead ${count === 1 ? 'delivery is' : 'deliveries are'} on their way again.\n`);
}
