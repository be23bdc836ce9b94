// What the Helm chart says of the processes is what they are: settings, ports, probes, times to stop.
import { execFile } from 'node:child_process';
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { readConfig } from '@millrace/process';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { ApiConfig } from '../../apps/api/src/config.ts';
import { AutoscalerConfig } from '../../apps/autoscaler/src/config.ts';
import { readDeployments, readPools } from '../../apps/autoscaler/src/pools.ts';
import { DispatcherConfig } from '../../apps/dispatcher/src/config.ts';
import { WorkerConfig } from '../../apps/worker/src/config.ts';
import { chart, type Manifest, render } from './helm.ts';
import { root, startApp, startTestSystem, until } from './rig.ts';

const schemas = { api: ApiConfig, autoscaler: AutoscalerConfig, dispatcher: DispatcherConfig, worker: WorkerConfig };
type Component = keyof typeof schemas;
const components = Object.keys(schemas) as Component[];

interface Process {
  readonly component: Component;
  readonly name: string;
  readonly env: Readonly<Record<string, string>>;
  readonly pod: Manifest['spec'];
  readonly container: Manifest['spec'];
}

const examples = path.join(chart, '../examples');
let processes: Process[];
let everything: Process[];

beforeAll(async () => {
  const files = await readdir(examples);
  const sets = await Promise.all(files.map((file) => render({ files: [path.join(examples, file)] })));
  processes = sets.flatMap(processesOf);
  everything = processesOf(sets[files.indexOf('everything.yaml')] as Manifest[]);
});

function processesOf(manifests: readonly Manifest[]): Process[] {
  return manifests.filter(({ kind }) => kind === 'Deployment').map(({ metadata, spec }) => {
    const pod = spec.template.spec;
    const [container] = pod.containers;
    // The only one that is a secret.
    const env = container.env.map(({ name, value }: { name: string; value?: string }) => [name, value ?? 'redis://redis:6379']);
    return { component: metadata.labels['app.kubernetes.io/component'] as Component, name: metadata.name, env: Object.fromEntries(env), pod, container };
  });
}

const configOf = ({ component, env }: Process) => readConfig(schemas[component], env) as Record<string, unknown>;

test('each process takes the settings that the chart gives it, and knows all of them', async () => {
  expect(new Set(processes.map(({ component }) => component))).toEqual(new Set(components));
  const known = new Map(await Promise.all(components.map(async (component) => {
    const { stdout } = await promisify(execFile)(process.execPath, [path.join(root, 'apps', component, 'src/main.ts'), '--help']);
    return [component, [...stdout.matchAll(/^ {2}([A-Z][A-Z0-9_]+) /gm)].map(([, name]) => name)] as const;
  })));
  for (const one of processes) {
    expect(configOf(one)).toMatchObject({ redisUrl: 'redis://redis:6379' });
    // Of what all are given, each takes what concerns it.
    const own = Object.keys(one.env).filter((name) => name !== 'MILLRACE_RETENTION_SECONDS');
    expect(known.get(one.component)).toEqual(expect.arrayContaining(own));
  }
});

test('ports are those that the processes listen on, for others too', () => {
  for (const one of processes) {
    const { host, port, metricsHost, metricsPort, kedaHost, kedaPort } = configOf(one);
    const listens = { api: [[host, port]], worker: [[metricsHost, metricsPort]], dispatcher: [[metricsHost, metricsPort]], autoscaler: [[metricsHost, metricsPort], [kedaHost, kedaPort]] }[one.component];
    expect([one.name, one.container.ports.map(({ containerPort }: { containerPort: number }) => ['0.0.0.0', containerPort])]).toEqual([one.name, listens]);
    for (const probe of ['livenessProbe', 'readinessProbe', 'startupProbe']) expect(one.container[probe].httpGet.port).toBe(one.container.ports[0].name);
  }
});

test('pods have longer to stop than their processes take', () => {
  for (const one of processes) {
    const preStopSeconds = one.container.lifecycle?.preStop.sleep.seconds ?? 0;
    expect(one.pod.terminationGracePeriodSeconds - preStopSeconds).toBeGreaterThanOrEqual(configOf(one)['shutdownSeconds'] as number + 5);
  }
});

test('a worker runs the pool of its Deployment, on the models that are mounted', () => {
  for (const one of processes.filter(({ component }) => component === 'worker')) {
    expect(configOf(one)).toMatchObject({ pool: one.name.replace('mill-millrace-worker-', ''), models: '/models' });
  }
});

test('the autoscaler decides for the pools that something scales, and acts for those that nothing else does', () => {
  const config = readConfig(AutoscalerConfig, (everything.find(({ component }) => component === 'autoscaler') as Process).env);
  expect(Object.fromEntries([...readPools(config.pools)].map(([pool, { minReplicas, maxReplicas }]) => [pool, [minReplicas, maxReplicas]]))).toEqual({
    asked: [1, 4], gpu: [0, 2], large: [1, 4], plain: [1, 4], pushed: [0, 4], scraped: [1, 4],
  });
  expect(Object.fromEntries(readDeployments(config.deployments))).toEqual({ gpu: 'mill-millrace-worker-gpu', large: 'mill-millrace-worker-large' });
});

test('probes, metrics and what the scalers ask for are where the real processes serve them', async () => {
  const system = await startTestSystem({ workers: 1, dispatcher: true });
  onTestFinished(() => system.stop());
  const autoscaler = startApp('autoscaler', { REDIS_URL: system.redisUrl, MILLRACE_ACTUATOR: 'kubernetes', MILLRACE_METRICS_PORT: '0' });
  const ready = await until(() => autoscaler.logs.find(({ msg }) => msg === 'autoscaler is ready'), 'the autoscaler');
  const urls = { api: system.url, worker: system.workerUrls[0], dispatcher: system.dispatcherUrl, autoscaler: `http://127.0.0.1:${String(ready['metricsPort'])}` };
  for (const { component, container } of everything) {
    const paths = ['livenessProbe', 'readinessProbe', 'startupProbe'].map((probe) => container[probe].httpGet.path as string);
    const answers = await Promise.all([...paths, '/metrics'].map(async (where) => [where, (await fetch(`${urls[component]}${where}`)).status]));
    expect([component, ...answers]).toEqual([component, ...[...paths, '/metrics'].map((where) => [where, 200])]);
  }
  const [{ spec: { triggers: [asked] } }] = (await render({ files: [path.join(examples, 'keda.yaml')] })).filter(({ kind }) => kind === 'ScaledObject') as [Manifest];
  const ask = async () => (await (await fetch(system.url + new URL(asked.metadata.url).pathname)).json() as Record<string, unknown>)[asked.metadata.valueLocation];
  await until(async () => typeof await ask() === 'number', 'the decision');
  const [{ spec: { triggers: [scraped] } }] = (await render({ files: [path.join(examples, 'keda-prometheus.yaml')] })).filter(({ kind }) => kind === 'ScaledObject') as [Manifest];
  const [, metric, label] = /^max\((\w+)\{(.*)\}\)$/.exec(scraped.metadata.query) as unknown as [string, string, string];
  expect(await (await fetch(`${urls.autoscaler}/metrics`)).text()).toMatch(new RegExp(`^${metric}\\{.*${label}.*\\} \\d`, 'm'));
});
