// The Helm chart, rendered by the real helm: valid by the published schemas, and in step with what the processes are.
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { startDiscovery } from './discovery-server.ts';
import { chart, helm, type Manifest, render } from './helm.ts';
import { faultsOf, unknownFieldsOf } from './published-schemas.ts';
import { temporaryFolder } from './rig.ts';

const examples = path.join(chart, '../examples');
const files = (await readdir(examples)).map((name) => path.join(examples, name));
const folder = await temporaryFolder(afterAll);
let rendered: Map<string, Manifest[]>;

beforeAll(async () => {
  rendered = new Map([['the default values', await render()]]);
  for (const file of files) rendered.set(path.basename(file), await render({ files: [file] }));
});

const of = (values: string, kind: string): Manifest[] => rendered.get(values)?.filter((manifest) => manifest.kind === kind) ?? [];
const named = (values: string, kind: string, name: string): Manifest => of(values, kind).find(({ metadata }) => metadata.name === `mill-millrace-${name}`) as Manifest;
const namesOf = (manifests: readonly Manifest[]) => manifests.map(({ metadata }) => metadata.name.replace('mill-millrace-', ''));

test('helm lint finds nothing', async () => {
  for (const file of files) expect(await helm('lint', chart, '--strict', '--values', file)).toContain('0 chart(s) failed');
});

test('everything is valid by the published schemas, and has no field that they do not know', async () => {
  const manifests = [...rendered.values()].flat();
  expect(manifests.length).toBeGreaterThan(50);
  expect((await Promise.all(manifests.map(faultsOf))).flat()).toEqual([]);
  expect(await unknownFieldsOf(manifests, folder)).toEqual([]);
});

test('the schemas do find faults', async () => {
  const [deployment] = await render() as [Manifest];
  const wrong = [
    { ...deployment, spec: { ...deployment['spec'], maxUnavailabel: 1 } },
    { ...named('keda.yaml', 'ScaledObject', 'worker-default'), spec: { scaleTargetRef: {}, triggers: [{ type: 'cpu', metadata: {}, valueLocation: '' }] } },
  ] as Manifest[];
  expect(await faultsOf(wrong[1] as Manifest)).toEqual([expect.stringContaining('name')]);
  expect(await unknownFieldsOf(wrong, folder)).toEqual([expect.stringContaining('maxUnavailabel'), expect.stringContaining('name'), expect.stringContaining('valueLocation')]);
});

test('what is named is there: selectors, targets of scaling, service accounts, ports', () => {
  for (const manifests of rendered.values()) {
    const only = (...kinds: readonly string[]) => manifests.filter(({ kind }) => kinds.includes(kind));
    const pods = only('Deployment').map(({ spec }) => spec.template);
    const selectedBy = (labels: object) => pods.filter((pod) => Object.entries(labels).every(([key, value]) => pod.metadata.labels[key] === value));
    for (const { spec } of only('Deployment', 'PodDisruptionBudget')) expect(selectedBy(spec.selector.matchLabels)).toHaveLength(1);
    for (const { spec } of only('Service')) expect(selectedBy(spec.selector).flatMap((pod) => pod.spec.containers[0].ports)).toContainEqual(expect.objectContaining({ name: spec.ports[0].targetPort }));
    for (const { spec } of only('ScaledObject', 'HorizontalPodAutoscaler')) expect(only('Deployment').map(({ metadata }) => metadata.name)).toContain(spec.scaleTargetRef.name);
    for (const pod of pods) expect(only('ServiceAccount').map(({ metadata }) => metadata.name)).toContain(pod.spec.serviceAccountName);
  }
});

test('pods have no rights that they do not need', () => {
  for (const { spec: { template: { spec: pod } } } of [...rendered.values()].flat().filter(({ kind }) => kind === 'Deployment')) {
    expect(pod.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
    for (const container of pod.containers) {
      expect(container.securityContext).toEqual({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } });
      for (const mount of container.volumeMounts.filter(({ name }: { name: string }) => name === 'models')) expect(mount).toMatchObject({ mountPath: '/models', readOnly: true });
    }
  }
});

test('only an autoscaler that acts through Kubernetes has a token, for the scale of its pools and nothing else', () => {
  for (const [values, manifests] of rendered) {
    const withToken = manifests.filter(({ kind, spec }) => kind === 'Deployment' && spec.template.spec.automountServiceAccountToken);
    const roles = manifests.filter(({ kind }) => kind === 'Role');
    const acts = values === 'autoscaler.yaml' || values === 'everything.yaml';
    expect([values, namesOf(withToken), namesOf(roles)]).toEqual([values, acts ? ['autoscaler'] : [], acts ? ['autoscaler'] : []]);
  }
  expect(named('everything.yaml', 'Role', 'autoscaler')['rules']).toEqual([{
    apiGroups: ['apps'], resources: ['deployments/scale'], resourceNames: ['mill-millrace-worker-gpu', 'mill-millrace-worker-large'], verbs: ['get', 'patch'],
  }]);
});

test('each pool is scaled by one thing at most, which alone says how many there are', () => {
  const scaledBy = Object.fromEntries(of('everything.yaml', 'Deployment').filter(({ metadata }) => metadata.labels['millrace/pool']).map(({ metadata: { name, labels }, spec }) => {
    const holds = (kind: string) => of('everything.yaml', kind).some((manifest) => manifest['spec'].scaleTargetRef.name === name);
    const ours = named('everything.yaml', 'Role', 'autoscaler')['rules'][0].resourceNames.includes(name);
    return [labels['millrace/pool'], [spec.replicas ?? [], holds('ScaledObject') ? 'keda' : [], holds('HorizontalPodAutoscaler') ? 'hpa' : [], ours ? 'autoscaler' : []].flat()];
  }));
  expect(scaledBy).toEqual({ default: [0], gpu: ['autoscaler'], large: ['autoscaler'], asked: ['keda'], pushed: ['keda'], scraped: ['keda'], plain: ['hpa'] });
});

test('what the monitors scrape has the job names that rules look for', async () => {
  const rules = await readFile(path.join(chart, '../../prometheus/rules.yml'), 'utf8');
  const looksFor = new RegExp(`^(?:${(/up\{job=~"([^"]+)"\}/.exec(rules) as RegExpExecArray)[1]})$`);
  const endpoints = [...of('everything.yaml', 'ServiceMonitor').flatMap(({ spec }) => spec.endpoints), ...of('everything.yaml', 'PodMonitor').flatMap(({ spec }) => spec.podMetricsEndpoints)];
  expect(endpoints).toHaveLength(2);
  for (const { relabelings } of endpoints) {
    expect(relabelings).toEqual([{ sourceLabels: ['__meta_kubernetes_pod_label_app_kubernetes_io_component'], targetLabel: 'job', replacement: 'millrace-$1' }]);
  }
  for (const { spec } of of('everything.yaml', 'Deployment')) expect(`millrace-${spec.template.metadata.labels['app.kubernetes.io/component']}`).toMatch(looksFor);
});

test('an upgrade leaves as many workers as there are where something scales them, also when that is switched on', async () => {
  const cluster = await startDiscovery({ 'mill-millrace-worker-default': 8, 'mill-millrace-worker-empty': 0, 'mill-millrace-worker-raised': 1, 'mill-millrace-worker-fixed': 8 });
  const pools = {
    default: { scaling: { by: 'autoscaler' } }, empty: { scaling: { by: 'keda', min: 0, keda: { trigger: 'external-push' } } }, raised: { scaling: { by: 'hpa', min: 2 } },
    fixed: { scaling: { by: 'none', replicas: 3 } }, fresh: { scaling: { by: 'autoscaler' } },
  };
  const manifests = await render({ set: [`pools=${JSON.stringify(pools)}`], cluster });
  const replicas = manifests.filter(({ kind, metadata }) => kind === 'Deployment' && metadata.labels['millrace/pool']).map(({ metadata: { labels }, spec }) => [labels['millrace/pool'], spec.replicas]);
  expect(Object.fromEntries(replicas)).toEqual({ default: 8, empty: 0, raised: 2, fixed: 3, fresh: undefined });
});

test('the GPU pool asks for a GPU, on a node that has one, with the CUDA image', () => {
  const { spec } = named('gpu.yaml', 'Deployment', 'worker-gpu');
  const { nodeSelector, tolerations, containers: [worker] } = spec.template.spec;
  expect([nodeSelector, tolerations, worker.image, worker.resources.limits['nvidia.com/gpu']]).toEqual([
    { 'nvidia.com/gpu.present': 'true' }, [expect.objectContaining({ key: 'nvidia.com/gpu' })], 'registry.internal/ml/millrace-worker-cuda:0.1.0', 1,
  ]);
});

test.each([
  ['a value that there is not', 'api.replica=2', 'replica'],
  ['two ways of scaling', 'worker.scaling.by=["keda","hpa"]', 'scaling'],
  ['a setting that another value sets', 'settings.MILLRACE_SHUTDOWN_SECONDS=1', 'settings'],
  ['a pool whose name the processes refuse', 'pools.GPU={}', 'pools'],
  ['a plain HPA that goes to zero', 'pools.default.scaling={"by":"hpa","min":0}', 'min'],
  ['a minimum above the maximum', 'worker.scaling.min=9', 'min'],
  ['metrics-api without a key', 'worker.scaling.by="keda"', 'metricsKey.secret'],
  ['prometheus without its place', 'worker.scaling={"by":"keda","keda":{"trigger":"prometheus"}}', 'prometheusUrl'],
  ['models from a claim without its name', 'models.from="claim"', 'models.claim'],
  ['a certificate for Redis without its secret', 'redis.tls={"certificate":true}', 'redis.tls.secret'],
  ['a fallback to no worker, which KEDA takes for none', 'worker.scaling.keda.fallback={"failures":3,"replicas":0}', 'fallback'],
])('%s is refused', async (_name, value, where) => {
  await expect(render({ set: [value] })).rejects.toThrow(where);
});
