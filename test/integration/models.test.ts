// What is in the model repository is what is served: exactly, while it changes, and within the bound on memory.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { appendFile, cp, mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Model, Prediction, Problem } from '@millrace/protocol';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { difference } from './direct.ts';
import { bundledModels, fixtureModels, predict, root, send, startTestSystem, startWorker, temporaryFolder, type TestSystem, until } from './rig.ts';

let system: TestSystem;
beforeAll(async () => { system = await startTestSystem(); });
afterAll(() => system.stop());

interface Expected {
  readonly rows: readonly unknown[];
  readonly outputs: Readonly<Record<string, readonly unknown[]>> & { readonly probabilities: readonly (readonly number[])[] };
}

const iris = [[5.1, 3.5, 1.4, 0.2]];
const fixture = (name: string) => path.join(fixtureModels, name, '1', 'model.onnx');
const bundled = (name: string) => path.join(bundledModels, name, '1', 'model.onnx');
const sha256 = (file: string) => createHash('sha256').update(readFileSync(file)).digest('hex');

async function modelOf(name: string, of: TestSystem = system): Promise<Model | undefined> {
  const { status, body } = await send(of, 'GET', `/api/v1/models/${name}`);
  return status === 200 ? body : undefined;
}

/** Cut into predictions of 1, 2, 3, 5 and 8 rows, again and again. */
function mixedSizes<Row>(rows: readonly Row[]): Row[][] {
  const sizes = [1, 2, 3, 5, 8];
  const parts: Row[][] = [];
  for (let at = 0; at < rows.length; at += parts.at(-1)?.length ?? 1) parts.push(rows.slice(at, at + (sizes[parts.length % sizes.length] ?? 1)));
  return parts;
}

test.each(['iris', 'digits', 'digits-deep'])('%s answers what its training framework answered', async (model) => {
  const { rows, outputs }: Expected = JSON.parse(await readFile(path.join(root, 'test/fixtures/expected', `${model}.json`), 'utf8'));
  const requests = mixedSizes(rows).map((inputs) => ({ model, inputs }));
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests }, { prefer: 'wait=60' });
  const predictions: Prediction[] = body.results.map(({ prediction }: { prediction: Prediction }) => prediction);
  for (const [name, expected] of Object.entries(outputs)) {
    const answered = predictions.flatMap((prediction) => (prediction.outputs as Expected['outputs'])[name]);
    expect(difference(answered, expected)).toBeLessThan(1e-5);
  }
  const classes = outputs['label'] ?? outputs.probabilities.map((row) => row.indexOf(Math.max(...row)));
  const names = (await modelOf(model))?.labels;
  expect(predictions.flatMap(({ labels }) => labels)).toEqual(classes.map((index) => names?.[index as number]));
});

test('models are listed with signatures, labels, aliases and digests', async () => {
  const { body: { models } }: { body: { models: Model[] } } = await send(system, 'GET', '/api/v1/models');
  const byName = new Map(models.map((model) => [model.name, model]));
  expect(byName.get('iris')).toEqual({
    name: 'iris', pool: 'default', default_version: 1, aliases: { champion: 1 }, labels: ['setosa', 'versicolor', 'virginica'],
    batching: { max_rows: 64, max_delay_ms: 0 },
    versions: [{
      version: 1, state: 'ready', reason: null, sha256: sha256(bundled('iris')), size_bytes: readFileSync(bundled('iris')).length, batched: true,
      inputs: [{ name: 'features', dtype: 'float32', shape: ['batch', 4] }],
      outputs: [{ name: 'label', dtype: 'int64', shape: ['batch'] }, { name: 'probabilities', dtype: 'float32', shape: ['batch', 3] }],
    }],
  });
  expect(byName.get('no-batch')).toMatchObject({ aliases: {}, labels: [], versions: [{ batched: false, inputs: [{ name: 'x', shape: [3, 2] }, { name: 'y' }] }] });
  expect(byName.get('dynamic-width')?.versions[0]).toMatchObject({ batched: true, inputs: [{ name: 'x', dtype: 'float32', shape: [expect.any(String), expect.any(String)] }] });
  for (const name of ['iris', 'no-batch', 'dynamic-width']) expect(await modelOf(name)).toEqual(byName.get(name));
});

test('an unknown model has a problem', async () => {
  const { status, headers, body } = await send(system, 'GET', '/api/v1/models/nope');
  expect([status, headers.get('content-type'), body.type]).toEqual([404, 'application/problem+json', '/problems/unknown-model']);
});

test('a new version is served without a restart, and the old one by its number', async () => {
  const folder = path.join(system.models, 'iris/2');
  await mkdir(folder);
  await cp(fixture('dynamic-width'), path.join(folder, 'model.onnx.part'));
  await rename(path.join(folder, 'model.onnx.part'), path.join(folder, 'model.onnx'));
  await until(async () => (await modelOf('iris'))?.default_version === 2, 'version 2');
  expect((await predict(system, 'iris', [[1, 2]])).body).toMatchObject({ status: 'succeeded', version: 2, outputs: { y: [[2, 4]] } });
  for (const old of ['iris@1', 'iris@champion']) expect((await predict(system, old, iris)).body).toMatchObject({ version: 1, labels: ['setosa'] });

  await writeFile(path.join(system.models, 'iris/model.yaml'), 'aliases: { champion: 2, former: 1 }\n');
  await until(async () => (await modelOf('iris'))?.aliases['champion'] === 2, 'the alias');
  expect((await predict(system, 'iris@champion', [[1, 2]])).body).toMatchObject({ version: 2, outputs: { y: [[2, 4]] } });
  expect((await predict(system, 'iris@former', iris)).body).toMatchObject({ version: 1, outputs: { label: [0] } });
});

test('a version that is still being written does not count until it is whole', async () => {
  const bytes = await readFile(bundled('digits'));
  const file = path.join(system.models, 'digits/2/model.onnx');
  await mkdir(path.dirname(file));
  await writeFile(file, bytes.subarray(0, bytes.length / 2));
  const half = await until(async () => (await modelOf('digits'))?.versions.find(({ version }) => version === 2), 'the half');
  expect(half).toMatchObject({ state: 'refused', reason: expect.stringMatching(/./) });
  const blank = [Array.from({ length: 64 }, () => 0)];
  expect((await predict(system, 'digits', blank)).body).toMatchObject({ status: 'succeeded', version: 1 });
  await appendFile(file, bytes.subarray(bytes.length / 2));
  await until(async () => (await modelOf('digits'))?.default_version === 2, 'the whole');
  expect((await predict(system, 'digits', blank)).body).toMatchObject({ status: 'succeeded', version: 2 });
});

test('a version whose file is replaced is served as it is now', async () => {
  const file = path.join(system.models, 'float16-scale/1/model.onnx');
  await cp(fixture('dynamic-width'), file);
  const digest = sha256(fixture('dynamic-width'));
  await until(async () => (await modelOf('float16-scale'))?.versions[0]?.sha256 === digest, 'the new digest');
  expect((await predict(system, 'float16-scale', [[1, 3]])).body).toMatchObject({ status: 'succeeded', version: 1, outputs: { y: [[2, 6]], mean: [2] } });
});

test('a version that the API has seen before the worker is run as soon as it is loaded', async () => {
  const models = await temporaryFolder();
  const ahead = await startTestSystem({ models, workers: 0 });
  onTestFinished(() => ahead.stop());
  await startWorker(ahead, { MILLRACE_MODEL_SCAN_SECONDS: '600' });
  await cp(bundled('digits'), path.join(models, 'digits/1/model.onnx'));
  await until(async () => (await modelOf('digits', ahead))?.default_version === 1, 'the model');
  expect((await predict(ahead, 'digits', [Array.from({ length: 64 }, () => 0)])).body).toMatchObject({ status: 'succeeded', version: 1 });
});

test('files that cannot be served are listed with the reason, and predicting with them says why', async () => {
  const refused = ['external', 'not-onnx', 'truncated', 'zipmap'];
  await cp(path.join(root, 'test/fixtures/refused'), system.models, { recursive: true });
  for (const name of refused) {
    const model = await until(() => modelOf(name), name);
    expect(model).toMatchObject({ default_version: null, versions: [{ version: 1, state: 'refused', sha256: null, inputs: [] }] });
    const reason = model.versions[0]?.reason as string;
    expect(reason).toMatch(/\w+ \w+/);
    for (const ref of [name, `${name}@1`]) {
      const { status, body }: { status: number; body: Problem } = await predict(system, ref, [[1]]);
      expect([status, body.type]).toEqual([404, '/problems/unknown-model']);
      expect(body.detail).toContain(reason);
    }
    expect(reason).not.toContain(system.models);
  }
  expect((await predict(system, 'iris@1', iris)).body.status).toBe('succeeded');
  expect(system.logs.filter(({ level }) => level === 'fatal' || level === 'error')).toEqual([]);
});

test('a file at <name>/<version>/model.onnx is all that a repository needs', async () => {
  const models = await temporaryFolder();
  const lone = await startTestSystem({ models });
  onTestFinished(() => lone.stop());
  expect((await send(lone, 'GET', '/readyz')).status).toBe(503);
  await cp(fixture('dynamic-width'), path.join(models, 'doubled/7/model.onnx'));
  await until(async () => (await send(lone, 'GET', '/readyz')).status === 200, 'ready');
  await until(async () => (await modelOf('doubled', lone))?.default_version === 7, 'the whole file');
  expect(await modelOf('doubled', lone)).toMatchObject({ pool: 'default', default_version: 7, aliases: {}, labels: [] });
  expect((await predict(lone, 'doubled', [[1, 3]])).body).toMatchObject({ status: 'succeeded', version: 7, outputs: { y: [[2, 6]] }, labels: null });
});

test('models that fit the memory only one by one take turns, and one that never fits says so', async () => {
  const bound = readFileSync(bundled('digits')).length + 100;
  const small = await startTestSystem({ models: bundledModels, env: { MILLRACE_SESSION_MEMORY_BYTES: String(bound) } });
  onTestFinished(() => small.stop());
  const blank = Array.from({ length: 64 }, () => 0);
  const both = [['iris', iris], ['digits', [blank]]] as const;
  for (let round = 0; round < 3; round++) {
    for (const [model, inputs] of both) expect((await predict(small, model, inputs)).body).toMatchObject({ status: 'succeeded', model });
  }
  const mixed = await Promise.all(Array.from({ length: 10 }, () => both.map(([model, inputs]) => predict(small, model, inputs))).flat());
  expect(new Set(mixed.map(({ body }) => body.status))).toEqual(new Set(['succeeded']));

  const { body } = await predict(small, 'digits-deep', [blank]);
  expect(body).toMatchObject({ status: 'failed', outputs: null, error: { type: '/problems/model-unavailable' } });
  expect(body.error.detail).toContain(String(bound));
  const metrics = await (await fetch(`${small.workerUrls[0]}/metrics`)).text();
  const loads = /millrace_model_load_seconds_count\{[^}]*model="digits"[^}]*\} (\d+)/.exec(metrics)?.[1];
  expect(Number(loads)).toBeGreaterThan(2);
  expect(Number(/millrace_model_memory_bytes\{[^}]*\} (\d+)/.exec(metrics)?.[1])).toBeLessThanOrEqual(bound);
});

test('a model that may only run on a device that is not there is refused, and one that may fall back runs on the CPU', async () => {
  for (const [name, providers] of [['only-cuda', '[cuda]'], ['cuda-or-cpu', '[cuda, cpu]']] as const) {
    await mkdir(path.join(system.models, name));
    await writeFile(path.join(system.models, name, 'model.yaml'), `execution_providers: ${providers}\n`);
    await cp(bundled('iris'), path.join(system.models, name, '1/model.onnx'));
    await until(async () => (await modelOf(name))?.default_version === 1, 'the model');
  }
  const refused = await predict(system, 'only-cuda', iris, { max_attempts: 1 });
  expect(refused.body).toMatchObject({ status: 'failed', error: { type: '/problems/model-unavailable', detail: expect.stringContaining('the CPU is not among them (execution provider cannot be used: cuda: ') } });
  expect((await predict(system, 'cuda-or-cpu', iris)).body.status).toBe('succeeded');
  const metrics = await (await fetch(`${system.workerUrls[0]}/metrics`)).text();
  expect(metrics).toContain('millrace_session_provider{model="cuda-or-cpu",version="1",provider="cpu",service="worker"} 1\n');
  expect(metrics).not.toContain('model="only-cuda",version="1",provider');
});
