// The load generator: a process of its own, so that it shares no event loop with what it measures. Tasks come by IPC.
import http from 'node:http';
import autocannon from 'autocannon';

export interface LoadTask {
  readonly url: string;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly connections: number;
  readonly amount: number;
  /** What a good answer contains; every answer is checked. */
  readonly expect: string;
}

export interface LoadResult {
  readonly seconds: number;
  readonly good: number;
  readonly bad: number;
  readonly firstBad: string | undefined;
  /** Ids of the predictions in the answers. */
  readonly ids: readonly string[];
  /** One per request at one connection; empty else. */
  readonly latenciesMs: readonly number[];
}

/** Sends exactly `amount` requests and waits for all answers. */
async function throughput({ url, body, headers, connections, amount, expect }: LoadTask): Promise<LoadResult> {
  const ids: string[] = [];
  let good = 0;
  let bad = 0;
  let firstBad: string | undefined;
  let answeredAt = 0;
  const startedAt = performance.now();
  await autocannon({
    url, connections, amount, timeout: 60,
    requests: [{
      method: 'POST', body, headers: { 'content-type': 'application/json', ...headers },
      onResponse: (_status, text) => {
        answeredAt = performance.now();
        if (!text.includes(expect)) {
          bad++;
          firstBad ??= text;
          return;
        }
        good++;
        if (text.startsWith('{"id":"')) ids.push(text.slice(7, text.indexOf('"', 7)));
      },
    }],
  });
  // autocannon itself ends on its next whole second.
  return { seconds: (answeredAt - startedAt) / 1000, good, bad: bad + (amount - good - bad), firstBad, ids, latenciesMs: [] };
}

/** One request after another on one connection, with a finer clock than load tools have. */
async function oneByOne({ url, body, headers, amount, expect }: LoadTask): Promise<LoadResult> {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  const options = { method: 'POST', agent, headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body), ...headers } };
  const latenciesMs: number[] = [];
  const ids: string[] = [];
  let bad = 0;
  const startedAt = performance.now();
  for (let count = 0; count < amount; count++) {
    const sentAt = performance.now();
    const text = await new Promise<string>((resolve, reject) => {
      const request = http.request(url, options, (response) => {
        let answer = '';
        response.setEncoding('utf8').on('data', (part: string) => { answer += part; }).on('end', () => resolve(answer));
      });
      request.on('error', reject).end(body);
    });
    latenciesMs.push(performance.now() - sentAt);
    if (text.includes(expect)) ids.push(text.slice(7, text.indexOf('"', 7)));
    else bad++;
  }
  agent.destroy();
  return { seconds: (performance.now() - startedAt) / 1000, good: amount - bad, bad, firstBad: undefined, ids, latenciesMs };
}

process.on('message', (task: LoadTask) => {
  void (task.connections === 1 ? oneByOne(task) : throughput(task)).then((result) => process.send?.(result));
});
process.on('disconnect', () => process.exit());
