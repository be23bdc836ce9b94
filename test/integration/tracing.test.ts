// Traces over the real processes: from a caller's request through queue and micro-batch to the receiver of its webhook.
import { randomBytes } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Receiver } from './receiver.ts';
import { freeze, predict, send, startTestSystem, type TestSystem, until } from './rig.ts';
import { type ReceivedSpan, TraceReceiver } from './trace-receiver.ts';

const iris = [[5.1, 3.5, 1.4, 0.2]];
let traces: TraceReceiver;
let webhooks: Receiver;
let system: TestSystem;

beforeAll(async () => {
  [traces, webhooks] = await Promise.all([TraceReceiver.start(), Receiver.start()]);
  system = await startTestSystem({
    env: {
      OTEL_EXPORTER_OTLP_ENDPOINT: traces.url, OTEL_RESOURCE_ATTRIBUTES: 'deployment.environment.name=test', MILLRACE_LOG_LEVEL: 'debug',
      MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8', MILLRACE_WEBHOOK_RETRY_SECONDS: '0.2',
    },
  });
});

afterAll(async () => {
  await system.stop();
  await Promise.all([traces.stop(), webhooks.stop()]);
});

/** What a caller sends that traces: its trace, and the span that the request is made in. */
function caller(flags = '01') {
  const [traceId, spanId] = [randomBytes(16).toString('hex'), randomBytes(8).toString('hex')];
  return { traceId, spanId, headers: { traceparent: `00-${traceId}-${spanId}-${flags}`, tracestate: 'other=kept' } };
}

const spanOf = (traceId: string, name: string) => until(() => traces.find(traceId, name), `the span ${name}`);
const contextOf = ({ traceId, spanId }: ReceivedSpan) => ({ traceId, spanId });

test('a prediction with a webhook is one trace, from the caller to the receiver', async () => {
  const { traceId, spanId, headers } = caller();
  const body = { model: 'iris', inputs: iris, webhook: { url: `${webhooks.url}/told` } };
  const answer = await send(system, 'POST', '/api/v1/predictions', body, { prefer: 'wait=30', ...headers });
  expect(answer.body.status).toBe('succeeded');

  const request = await spanOf(traceId, 'POST /api/v1/predictions');
  expect(request).toMatchObject({ service: 'millrace-api', kind: 'SERVER', parentId: spanId, failed: false, attributes: { 'http.request.method': 'POST', 'http.route': '/api/v1/predictions', 'http.response.status_code': '200' } });
  const sent = await spanOf(traceId, 'send default/online');
  expect(sent).toMatchObject({ kind: 'PRODUCER', parentId: request.spanId, attributes: { 'messaging.system': 'bullmq', 'messaging.message.id': answer.body.id, 'millrace.model.name': 'iris' } });
  const batch = await spanOf(traceId, 'process default/online');
  expect(batch).toMatchObject({ service: 'millrace-worker', kind: 'CONSUMER', parentId: sent.spanId, links: [contextOf(sent)], attributes: { 'messaging.batch.message_count': '1', 'millrace.batch.size': '1' } });
  const steps = await Promise.all(['batch.assemble', 'onnx.run', 'result.publish'].map((name) => spanOf(traceId, name)));
  for (const step of steps) expect(step).toMatchObject({ kind: 'INTERNAL', parentId: batch.spanId });
  const [assembled, ran, published] = steps as [ReceivedSpan, ReceivedSpan, ReceivedSpan];
  expect([assembled.startedAt, ran.startedAt, published.startedAt, published.endedAt]).toEqual([batch.startedAt, assembled.endedAt, ran.endedAt, batch.endedAt]);

  const told = await until(() => webhooks.of(answer.body.id)[0], 'the webhook');
  const posted = await spanOf(traceId, 'POST');
  expect(posted).toMatchObject({ service: 'millrace-dispatcher', kind: 'CLIENT', parentId: sent.spanId, attributes: { 'http.response.status_code': '204', 'server.address': '127.0.0.1' } });
  expect(told.headers).toMatchObject({ traceparent: `00-${traceId}-${posted.spanId}-01`, tracestate: 'other=kept' });
  expect(JSON.stringify(answer.body)).not.toContain(traceId);
  expect(told.text).not.toContain(traceId);
});

test('a micro-batch of several predictions has a link to each', async () => {
  const callers = Array.from({ length: 24 }, () => caller());
  const answers = await Promise.all(callers.map(({ headers }) => send(system, 'POST', '/api/v1/predictions', { model: 'digits', inputs: [Array.from({ length: 64 }, () => 1)] }, { prefer: 'wait=30', ...headers })));
  expect(answers.map(({ status }) => status)).toEqual(callers.map(() => 200));
  const sent = await Promise.all(callers.map(({ traceId }) => spanOf(traceId, 'send default/online')));
  const linked = await until(() => {
    const links = traces.spans.filter(({ name, attributes }) => name === 'process default/online' && attributes['millrace.model.name'] === 'digits').flatMap((span) => span.links);
    return links.length >= callers.length && links;
  }, 'all micro-batches');
  expect(linked.toSorted(byId)).toEqual(sent.map(contextOf).toSorted(byId));
  const batches = traces.spans.filter(({ name, attributes }) => name === 'process default/online' && attributes['millrace.model.name'] === 'digits');
  expect(batches.length).toBeLessThan(callers.length);
  for (const { traceId, parentId, links } of batches) expect(links).toContainEqual({ traceId, spanId: parentId });
});

const byId = (one: { readonly spanId: string }, other: { readonly spanId: string }) => one.spanId.localeCompare(other.spanId);

test('what fails says of what, and every attempt of a webhook is a span', async () => {
  const { traceId, headers } = caller();
  webhooks.answer = ({ path }) => (path === '/fails-once' && webhooks.received.filter((received) => received.path === path).length === 1 ? 500 : 204);
  const body = { model: 'fails-on-negative', inputs: [[-1]], max_attempts: 1, webhook: { url: `${webhooks.url}/fails-once` } };
  const { body: prediction } = await send(system, 'POST', '/api/v1/predictions', body, { prefer: 'wait=30', ...headers });
  expect(prediction).toMatchObject({ status: 'failed', error: { type: '/problems/model-failed' } });
  expect(await spanOf(traceId, 'process default/online')).toMatchObject({ failed: true, attributes: { 'error.type': 'model-failed' } });
  const attempts = await until(() => {
    const posted = traces.spans.filter((span) => span.traceId === traceId && span.name === 'POST');
    return posted.length === 2 && posted.toSorted((one, other) => Number(one.startedAt - other.startedAt));
  }, 'both attempts');
  expect(attempts).toMatchObject([{ failed: true, attributes: { 'error.type': '500' } }, { failed: false, attributes: { 'http.request.resend_count': '1' } }]);
});

test('a canceled prediction stays in its trace', async () => {
  const { traceId, headers } = caller();
  freeze(system.workers[0]?.pid);
  const { body: accepted } = await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris, webhook: { url: `${webhooks.url}/canceled` } }, headers);
  await send(system, 'POST', `/api/v1/predictions/${accepted.id}/cancel`);
  const told = await until(() => webhooks.of(accepted.id)[0], 'the webhook');
  expect(told).toMatchObject({ body: { type: 'prediction.canceled' }, headers: { traceparent: expect.stringContaining(traceId) } });
});

test('a caller that does not record is not recorded, and its receiver learns that', async () => {
  const { traceId, headers } = caller('00');
  const { body: prediction } = await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris, webhook: { url: `${webhooks.url}/quiet` } }, { prefer: 'wait=30', ...headers });
  const told = await until(() => webhooks.of(prediction.id)[0], 'the webhook');
  expect(told.headers['traceparent']).toMatch(new RegExp(`^00-${traceId}-[0-9a-f]{16}-00$`));
  // What comes after it is sent after it.
  const next = caller();
  await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris }, { prefer: 'wait=30', ...next.headers });
  await spanOf(next.traceId, 'process default/online');
  await spanOf(next.traceId, 'POST /api/v1/predictions');
  expect(traces.spans.filter((span) => span.traceId === traceId)).toEqual([]);
});

test('lines about a traced prediction name its trace', async () => {
  const { traceId, headers } = caller();
  const { body: prediction } = await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris }, { prefer: 'wait=30', ...headers });
  const line = await until(() => system.logs.find(({ msg, predictionId }) => msg === 'prediction settled' && predictionId === prediction.id), 'the line');
  expect(line).toMatchObject({ traceId, model: 'iris', modelVersion: 1, tenant: 'default', attempt: 1, outcome: 'succeeded' });
});

test('a prediction that nobody traces is a trace of its own', async () => {
  const { body: prediction } = await predict(system, 'iris', iris);
  const sent = await until(() => traces.spans.find(({ attributes }) => attributes['messaging.message.id'] === prediction.id), 'the span');
  expect((await spanOf(sent.traceId, 'POST /api/v1/predictions')).parentId).toBe('');
});
