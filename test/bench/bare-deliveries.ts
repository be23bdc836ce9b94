// The bare loop that deliveries are compared with: the dispatcher's HTTP client with its options, as many requests at once as
// it sends to one host, the same body, and a signature made for each. Nothing is queued, tried again or written down.
// Tasks come by IPC: milliseconds to run; the answer is deliveries per second.
import { newSecret, signatureOf } from '@millrace/delivery';
import { Agent, type Dispatcher } from 'undici';

export interface BareTask {
  readonly url: string;
  readonly body: string;
  readonly atOnce: number;
  readonly ms: number;
}

// As in libs/delivery/src/attempt.ts.
const agent = new Agent({ connect: { timeout: 5000 }, allowH2: false, maxHeaderSize: 16 * 1024, headersTimeout: 0, bodyTimeout: 0 });
const secret = newSecret();
let count = 0;

async function deliveriesPerSecond({ url, body, atOnce, ms }: BareTask): Promise<number> {
  const { origin, pathname: path } = new URL(url);
  const startedAt = performance.now();
  const endAt = startedAt + ms;
  const before = count;
  await Promise.all(Array.from({ length: atOnce }, async () => {
    while (performance.now() < endAt) {
      const id = `evt_bare_${process.pid}_${count++}`;
      const timestamp = Math.floor(Date.now() / 1000);
      const headers = {
        'content-type': 'application/json', 'user-agent': 'bare',
        'webhook-id': id, 'webhook-timestamp': String(timestamp), 'webhook-signature': signatureOf(id, timestamp, body, [secret]),
      };
      await post({ origin, path, method: 'POST', headers, body });
    }
  }));
  return (count - before) / ((performance.now() - startedAt) / 1000);
}

/** The client's fastest way: a handler, with neither streams nor promises inside. */
function post(request: Agent.DispatchOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    const handler: Dispatcher.DispatchHandler = {
      onRequestStart() { /* it is never aborted */ },
      onResponseStart(_, status) { if (status !== 204) reject(new Error(`the receiver answered ${status}`)); },
      onResponseData() { /* there is none */ },
      onResponseEnd: () => resolve(),
      onResponseError: (_, error) => reject(error),
    };
    agent.dispatch(request, handler);
  });
}

process.on('message', (task: BareTask) => { void deliveriesPerSecond(task).then((rate) => process.send?.(rate)); });
process.send?.('ready');
process.on('disconnect', () => process.exit());
