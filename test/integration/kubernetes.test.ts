// The number of workers through the scale subresource of Deployments, against a server that plays Kubernetes' API.
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { Deployments } from '../../apps/autoscaler/src/kubernetes.ts';
import { temporaryFolder } from './rig.ts';
import { refusals, ScaleServer } from './scale-server.ts';

const server = new ScaleServer();
const account = await temporaryFolder(afterAll);
let deployments: Deployments;

beforeAll(() => server.start());
beforeEach(async () => {
  server.answer = undefined;
  server.ordered.length = 0;
  server.replicas.set('workers', 2);
  await server.mount(account);
  deployments = new Deployments({ url: server.url, account, names: new Map([['gpu', 'workers'], ['lost', 'nothing']]), timeoutMs: 3000, elsewhere: () => Promise.resolve(7) });
});
afterAll(() => server.stop());

test('the number is read and set, and set only where it is another', async () => {
  expect(await deployments.observed('gpu')).toBe(2);
  await deployments.scale('gpu', 5);
  await deployments.scale('gpu', 5);
  expect([await deployments.observed('gpu'), server.ordered]).toEqual([5, [5]]);
});

test('zero, which Kubernetes leaves out, is a number', async () => {
  await deployments.scale('gpu', 0);
  expect([await deployments.observed('gpu'), server.ordered]).toEqual([0, [0]]);
});

test('who else has set another number is overruled by the next decision', async () => {
  await deployments.scale('gpu', 3);
  server.replicas.set('workers', 1);
  await deployments.scale('gpu', 3);
  expect(server.ordered).toEqual([3, 3]);
});

test('a pool that another scales is counted, and left alone', async () => {
  const calls = server.calls;
  await deployments.scale('default', 9);
  expect([await deployments.observed('default'), server.calls]).toEqual([7, calls]);
});

test('a token is read again when Kubernetes has replaced it', async () => {
  await deployments.scale('gpu', 3);
  server.token = 'token-2';
  await expect(deployments.scale('gpu', 4)).rejects.toMatchObject({ status: 401 });
  await server.mount(account);
  await deployments.scale('gpu', 4);
  expect(server.ordered).toEqual([3, 4]);
});

test.each(Object.entries(refusals))('refused as %s: the reason is told, and the next try is a new one', async (_name, refusal) => {
  server.answer = { method: 'PATCH', with: refusal };
  await expect(deployments.scale('gpu', 3)).rejects.toMatchObject({ name: 'KubernetesError', status: refusal.status, message: expect.stringContaining(refusal.message) });
  expect(server.replicas.get('workers')).toBe(2);
  server.answer = undefined;
  await deployments.scale('gpu', 3);
  expect(server.replicas.get('workers')).toBe(3);
});

test.each([
  ['never comes', 'hang', /abort|timeout/i],
  ['ends in the middle', 'cut', /abort|hang up/i],
  ['is no answer of Kubernetes', 'no json', /502.*no reason/],
] as const)('an answer that %s is a failure, in time', async (_name, answer, message) => {
  server.answer = { method: 'GET', with: answer };
  await expect(deployments.observed('gpu')).rejects.toThrow(message);
  server.answer = undefined;
  expect(await deployments.observed('gpu')).toBe(2);
});

test('a Deployment that there is not is told by its name', async () => {
  await expect(deployments.observed('lost')).rejects.toThrow('404 for the Deployment nothing: deployments.apps');
});

test('a server that another authority vouches for gets no token', async () => {
  const other = new ScaleServer();
  await other.start();
  onTestFinished(() => other.stop());
  const strange = new Deployments({ url: other.url, account, names: new Map([['gpu', 'workers']]), timeoutMs: 3000, elsewhere: () => Promise.resolve(0) });
  await expect(strange.observed('gpu')).rejects.toThrow(/certificate|signature/);
  expect(other.calls).toBe(0);
});
