// The autoscaler on Kubernetes: the real process over a real Redis, with KEDA's calls, and a server that plays Kubernetes' API.
import { status } from '@grpc/grpc-js';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { KedaClient, type Ref } from './keda-client.ts';
import { send, startApp, startTestSystem, temporaryFolder, type TestProcess, type TestSystem, until } from './rig.ts';
import { refusals, ScaleServer } from './scale-server.ts';

const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
const cluster = new ScaleServer();
const account = await temporaryFolder(afterAll);
/** Nobody serves its pool. */
let system: TestSystem;

beforeAll(async () => {
  await cluster.start();
  await cluster.mount(account);
  system = await startTestSystem({ workers: 0 });
});
afterAll(() => Promise.all([system.stop(), cluster.stop()]));

async function startAutoscaler(env: Record<string, string>): Promise<TestProcess & { readonly kedaPort: number; readonly metricsUrl: string }> {
  const autoscaler = startApp('autoscaler', {
    REDIS_URL: system.redisUrl, MILLRACE_ACTUATOR: 'kubernetes', MILLRACE_KUBERNETES_URL: cluster.url, MILLRACE_KUBERNETES_ACCOUNT: account,
    MILLRACE_METRICS_PORT: '0', MILLRACE_KEDA_PORT: '0', MILLRACE_POOLS: 'default=0..4', ...env,
  });
  // So that the next one may act at once.
  onTestFinished(async () => {
    autoscaler.child.kill('SIGTERM');
    await autoscaler.ended;
  });
  const ready = await until(() => autoscaler.logs.find(({ msg }) => msg === 'autoscaler is ready'), 'the autoscaler');
  return { ...autoscaler, kedaPort: Number(ready['kedaPort']), metricsUrl: `http://127.0.0.1:${String(ready['metricsPort'])}/metrics` };
}

function keda(port: number): KedaClient {
  const client = new KedaClient(port);
  onTestFinished(() => client.close());
  return client;
}

const refTo = (pool: string): Ref => ({ name: 'workers', namespace: 'ml', scalerMetadata: { pool, scalerAddress: 'mill-autoscaler.ml.svc:9467' } });

async function submit(): Promise<string> {
  const { body: { id } } = await send(system, 'POST', '/api/v1/predictions', iris);
  onTestFinished(() => cancel(id));
  return id;
}

async function cancel(id: string): Promise<void> {
  await send(system, 'POST', `/api/v1/predictions/${id}/cancel`);
}

test('KEDA is told at once that an empty pool has work, and how many workers that needs', async () => {
  // Ten seconds lie between two polls: what comes sooner was pushed.
  const { child, kedaPort, ended } = await startAutoscaler({ MILLRACE_POLL_SECONDS: '10', MILLRACE_IDLE_SECONDS: '0' });
  const client = keda(kedaPort);
  const ref = refTo('default');
  await until(() => client.call('IsActive', ref).then(() => true, () => false), 'the first decision');
  expect(await client.call('IsActive', ref)).toEqual({ result: false });
  expect(await client.call('GetMetricSpec', ref)).toEqual({ metricSpecs: [{ metricName: 'workers_desired', targetSize: 1, targetSizeFloat: 1 }] });
  const metrics = { scaledObjectRef: ref, metricName: 'workers_desired' };
  expect(await client.call('GetMetrics', metrics)).toEqual({ metricValues: [{ metricName: 'workers_desired', metricValue: 0, metricValueFloat: 0 }] });

  const pushed = client.stream(ref);
  await until(() => pushed.told.length === 1, 'what is so now');
  const submittedAt = Date.now();
  await submit();
  await until(() => pushed.told.length === 2, 'the push', 8);
  process.stdout.write(`\nKEDA was told ${Date.now() - submittedAt} ms after the prediction was sent, with 10,000 ms between polls\n`);
  expect(pushed.told).toEqual([false, true]);
  expect(await client.call('IsActive', ref)).toEqual({ result: true });
  expect(await client.call('GetMetrics', metrics)).toEqual({ metricValues: [{ metricName: 'workers_desired', metricValue: 1, metricValueFloat: 1 }] });
  expect(cluster.calls).toBe(0);

  // Ended well, so that KEDA comes again soon.
  child.kill('SIGTERM');
  await until(() => pushed.ended() === null, 'the end of the stream');
  expect(await ended).toEqual([0, null]);
});

test('what cannot be answered is refused with a reason, so that KEDA falls back', async () => {
  const { kedaPort, logs } = await startAutoscaler({ MILLRACE_DEPLOYMENTS: 'default=nothing' });
  const client = keda(kedaPort);
  await expect(client.call('IsActive', refTo('gpu'))).rejects.toMatchObject({ code: status.NOT_FOUND, details: expect.stringContaining('gpu') });
  await expect(client.call('GetMetricSpec', { ...refTo(''), scalerMetadata: {} })).rejects.toMatchObject({ code: status.INVALID_ARGUMENT, details: expect.stringContaining('pool') });
  await expect(client.call('GetMetrics', {})).rejects.toMatchObject({ code: status.INVALID_ARGUMENT });
  const refused = client.stream(refTo('gpu'));
  await until(() => refused.ended()?.code === status.NOT_FOUND, 'the end of the stream');
  // Without its Deployment nothing can be decided.
  await until(() => logs.find(({ msg }) => msg === 'pool cannot be scaled now'), 'the warning');
  await expect(client.call('GetMetrics', { scaledObjectRef: refTo('default') })).rejects.toMatchObject({ code: status.UNAVAILABLE });
});

test('a Deployment follows: from zero with the first prediction, over a failure, and back to zero', async () => {
  cluster.replicas.set('workers', 0);
  cluster.answer = { method: 'PATCH', with: refusals.conflict };
  const { logs, metricsUrl } = await startAutoscaler({ MILLRACE_POLL_SECONDS: '0.2', MILLRACE_IDLE_SECONDS: '1', MILLRACE_SCALE_IN_DELAY_SECONDS: '0', MILLRACE_DEPLOYMENTS: 'default=workers' });
  const id = await submit();
  const failures = () => logs.filter(({ msg }) => msg === 'pool cannot be scaled now');
  await until(() => failures().length > 1, 'two failures');
  expect(JSON.stringify(failures()[0])).toContain('Kubernetes answered 409');
  // What cannot be done yet is decided all the same, once, and told.
  const orders = () => logs.filter(({ msg }) => msg === 'fleet is scaled').map(({ from, desired }) => [from, desired]);
  expect(orders()).toEqual([[0, 1]]);
  const metrics = await (await fetch(metricsUrl)).text();
  expect(metrics).toContain('millrace_workers_desired{pool="default",service="autoscaler"} 1');
  expect(metrics).toContain('millrace_scale_events_total{pool="default",direction="out",service="autoscaler"} 1');
  cluster.answer = undefined;
  await until(() => cluster.replicas.get('workers') === 1, 'the first worker');
  expect(orders()).toEqual([[0, 1]]);
  await cancel(id);
  await until(() => cluster.replicas.get('workers') === 0, 'no worker');
  expect(cluster.ordered).toEqual([1, 0]);
});
