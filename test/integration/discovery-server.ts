// Plays as much of Kubernetes' API as `helm template --dry-run=server` asks for: what kinds there are, and Deployments of a release.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** Kinds of the chart, by the resource's name in each API. */
const apis: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  v1: { services: 'Service', serviceaccounts: 'ServiceAccount' },
  'apps/v1': { deployments: 'Deployment' },
  'autoscaling/v2': { horizontalpodautoscalers: 'HorizontalPodAutoscaler' },
  'keda.sh/v1alpha1': { scaledobjects: 'ScaledObject', triggerauthentications: 'TriggerAuthentication' },
  'policy/v1': { poddisruptionbudgets: 'PodDisruptionBudget' },
  'rbac.authorization.k8s.io/v1': { roles: 'Role', rolebindings: 'RoleBinding' },
};

/** Serves until the test has ended; gives its URL. `replicas`: of each Deployment of the release `mill` in the namespace `ml`. */
export async function startDiscovery(replicas: Readonly<Record<string, number>>): Promise<string> {
  const server = createServer((request, response) => {
    const body = answer((request.url ?? '').split('?')[0] as string, replicas);
    response.writeHead(body ? 200 : 404, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body ?? { kind: 'Status', apiVersion: 'v1', status: 'Failure', reason: 'NotFound', code: 404 }));
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function answer(where: string, replicas: Readonly<Record<string, number>>): object | undefined {
  if (where === '/version') return { major: '1', minor: '33', gitVersion: 'v1.33.0' };
  if (where === '/api') return { kind: 'APIVersions', versions: ['v1'] };
  if (where === '/apis') return { kind: 'APIGroupList', apiVersion: 'v1', groups: Object.keys(apis).filter((api) => api !== 'v1').map(groupOf) };
  const [, api = ''] = /^\/apis?\/([^/]+(?:\/[^/]+)?)$/.exec(where) ?? [];
  if (apis[api]) return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: api, resources: Object.entries(apis[api]).map(([name, kind]) => ({ name, kind, singularName: '', namespaced: true, verbs: ['get'] })) };
  const [, name = ''] = /^\/apis\/apps\/v1\/namespaces\/ml\/deployments\/(.+)$/.exec(where) ?? [];
  return name in replicas ? { kind: 'Deployment', apiVersion: 'apps/v1', metadata: { name, namespace: 'ml', ...ownedByHelm }, spec: { replicas: replicas[name] } } : undefined;
}

function groupOf(groupVersion: string): object {
  const [name, version] = groupVersion.split('/');
  const only = { groupVersion, version };
  return { name, versions: [only], preferredVersion: only };
}

/** Without it Helm takes the Deployment for somebody else's. */
const ownedByHelm = {
  labels: { 'app.kubernetes.io/managed-by': 'Helm' },
  annotations: { 'meta.helm.sh/release-name': 'mill', 'meta.helm.sh/release-namespace': 'ml' },
};
