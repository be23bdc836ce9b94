import { afterAll, beforeAll, expect, test } from 'vitest';
import { freeze, predict, send, startTestSystem, type TestSystem, until } from './rig.ts';

let system: TestSystem;
beforeAll(async () => { system = await startTestSystem(); });
afterAll(() => system.stop());

const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
const wait = { prefer: 'wait=30' };
const post = (body: unknown, headers = {}) => send(system, 'POST', '/api/v1/predictions', body, headers);

test('Prefer: wait answers with the result, its label and where the time went', async () => {
  const { status, headers, body } = await post({ ...iris, metadata: { order: '7' } }, wait);
  expect(status).toBe(200);
  expect(headers.get('preference-applied')).toBe('wait=30');
  expect(headers.get('location')).toBe(`/api/v1/predictions/${body.id}`);
  expect(body).toMatchObject({
    object: 'prediction', status: 'succeeded', model: 'iris', version: 1, labels: ['setosa'], error: null, metadata: { order: '7' },
    outputs: { label: [0] }, metrics: { batch_rows: 1 },
  });
  expect(body.outputs.probabilities[0]).toHaveLength(3);
  expect(Date.parse(body.completed_at)).toBeGreaterThanOrEqual(Date.parse(body.created_at));
});

test('without it, 202 comes at once and the result is there to be waited for', async () => {
  const { status, headers, body } = await post(iris);
  expect(status).toBe(202);
  expect(headers.get('retry-after')).toBe('1');
  expect(body).toMatchObject({ status: 'queued', outputs: null, started_at: null });
  const result = await send(system, 'GET', `${headers.get('location')}?wait=30`);
  expect(result.body).toMatchObject({ id: body.id, status: 'succeeded', outputs: { label: [0] } });
  const etag = result.headers.get('etag') as string;
  expect((await send(system, 'GET', body.urls.get, undefined, { 'if-none-match': etag })).status).toBe(304);
  expect((await send(system, 'GET', body.urls.get, undefined, { 'if-none-match': '"queued"' })).status).toBe(200);
});

test('inputs and outputs take every form', async () => {
  const bytes = Buffer.from(Float32Array.of(5.1, 3.5, 1.4, 0.2).buffer).toString('base64');
  const forms = [iris.inputs, { features: iris.inputs }, { dtype: 'float32', shape: [1, 4], data: [5.1, 3.5, 1.4, 0.2] }, { features: { dtype: 'float32', shape: [1, 4], data: bytes } }];
  for (const inputs of forms) expect((await predict(system, 'iris', inputs)).body.outputs.label).toEqual([0]);
  const flat = await predict(system, 'iris', iris.inputs, { parameters: { format: 'flat', outputs: ['label'] } });
  expect(flat.body.outputs).toEqual({ label: { dtype: 'int64', shape: [1], data: [0] } });
  const base64 = await send(system, 'GET', `${flat.body.urls.get}?format=base64`);
  expect(base64.body.outputs).toEqual({ label: { dtype: 'int64', shape: [1], data: 'AAAAAAAAAAA=' } });
});

test('integers beyond 2^53 go through exactly', async () => {
  const response = await fetch(`${system.url}/api/v1/predictions`, {
    method: 'POST', headers: { 'content-type': 'application/json', ...wait }, body: '{"model":"int64-double","inputs":[[9007199254740993,-9223372036854775808]]}',
  });
  expect(await response.text()).toContain('"outputs":{"y":[[9007199254740993,-9223372036854775808]]}');
});

test('NaN and the infinities come back as text', async () => {
  const { body } = await predict(system, 'dynamic-width', [['NaN', 'Infinity'], [1, 2]]);
  expect(body.outputs).toEqual({ y: [['NaN', 'Infinity'], [2, 4]], mean: ['NaN', 1.5] });
});

test('a prediction of more rows than a micro-batch is cut and put together again', async () => {
  const rows = Array.from({ length: 300 }, (_, index) => [index, index + 1, index + 2]);
  const { body } = await predict(system, 'two-in-two-out', { a: rows, b: rows });
  expect(body.outputs.sum).toEqual(rows.map((row) => row.map((value) => 2 * value)));
});

test('a payload too large for a bundle travels beside it', async () => {
  const rows = Array.from({ length: 1000 }, (_, index) => Array.from({ length: 64 }, (_value, column) => (index + column) % 17));
  const { body } = await predict(system, 'digits', rows);
  expect(body.status).toBe('succeeded');
  expect(body.labels).toHaveLength(1000);
  const few = await predict(system, 'digits', rows.slice(0, 5));
  expect(body.labels.slice(0, 5)).toEqual(few.body.labels);
});

test('a prediction that the model refuses fails alone', async () => {
  const { status, body } = await send(system, 'POST', '/api/v1/predictions:batch', {
    requests: [3, 99, 5].map((value) => ({ model: 'fails-on-negative', inputs: [[value]] })),
  }, wait);
  expect(status).toBe(200);
  expect(body.results.map(({ prediction }: { prediction: { status: string } }) => prediction.status)).toEqual(['succeeded', 'failed', 'succeeded']);
  expect(body.results[1].prediction.error).toMatchObject({ type: '/problems/model-failed' });
  expect(JSON.stringify(body)).not.toContain(system.models);
});

test('a batch accepts and refuses each on its own', async () => {
  const { status, body } = await send(system, 'POST', '/api/v1/predictions:batch', {
    requests: [iris, { model: 'iris', inputs: [[1, 2]] }, { model: 'nope', inputs: [1] }, { ...iris, surprise: 1 }, 'text', { ...iris, model: 'iris@champion' }],
  }, wait);
  expect(status).toBe(200);
  expect(body).toMatchObject({ accepted: 2, rejected: 4 });
  expect(body.results.map(({ index }: { index: number }) => index)).toEqual([0, 1, 2, 3, 4, 5]);
  expect(body.results[1].error).toMatchObject({ type: '/problems/invalid-prediction', status: 422, errors: [{ pointer: '#/requests/1/inputs' }] });
  expect(body.results[2].error).toMatchObject({ type: '/problems/unknown-model', errors: [{ pointer: '#/requests/2/model' }] });
  expect(body.results[3].error.errors).toEqual([{ pointer: '#/requests/3/surprise', detail: 'unknown member' }]);
  expect(body.results[4].error.errors[0].pointer).toBe('#/requests/4');
});

test('1,000 predictions in one batch; more are refused', async () => {
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: 1000 }, () => iris) }, wait);
  expect(body).toMatchObject({ accepted: 1000, rejected: 0 });
  expect(new Set(body.results.map(({ prediction }: { prediction: { id: string } }) => prediction.id)).size).toBe(1000);
  const more = await send(system, 'POST', '/api/v1/predictions:batch', { requests: Array.from({ length: 1001 }, () => iris) });
  expect(more.status).toBe(422);
  expect(more.body.errors).toEqual([{ pointer: '#/requests', detail: 'must NOT have more than 1000 items' }]);
});

test.each([
  ['an unknown model', { model: 'nope', inputs: [[1]] }, 404, 'unknown-model', ['#/model']],
  ['an unknown version', { ...iris, model: 'iris@7' }, 404, 'unknown-model', ['#/model']],
  ['an unknown alias', { ...iris, model: 'iris@nobody' }, 404, 'unknown-model', ['#/model']],
  ['a wrong type', { model: 'iris', inputs: [[1, 'two', 3, null]] }, 422, 'invalid-prediction', ['#/inputs/0/1', '#/inputs/0/3']],
  ['a wrong shape', { model: 'iris', inputs: [[1, 2, 3]] }, 422, 'invalid-prediction', ['#/inputs']],
  ['missing and extra inputs', { model: 'two-in-two-out', inputs: { a: [[1, 2, 3]], c: 1 } }, 422, 'invalid-prediction', ['#/inputs/b', '#/inputs/c']],
  ['schema and tensor at once', { model: 'iris', inputs: [['x', 2, 3, 4]], metadata: { n: 5 }, extra: true, deadline_ms: 0 }, 422, 'invalid-prediction', ['#/extra', '#/metadata/n', '#/deadline_ms', '#/inputs/0/0']],
  ['an unknown output', { ...iris, parameters: { outputs: ['nope'] } }, 422, 'invalid-prediction', ['#/parameters/outputs/0']],
  ['a member with half a character', { ...iris, metadata: { '\ud800': 5 } }, 422, 'invalid-prediction', ['#/metadata/%EF%BF%BD']],
  ['no model', { inputs: [[1]] }, 422, 'invalid-prediction', ['#/model']],
  ['no inputs', { model: 'iris' }, 422, 'invalid-prediction', ['#/inputs']],
  ['an array', [iris], 422, 'invalid-prediction', ['#']],
  ['too many rows', { model: 'two-in-two-out', inputs: { a: { dtype: 'float32', shape: [10_001, 3], data: Buffer.alloc(120_012).toString('base64') }, b: { dtype: 'float32', shape: [10_001, 3], data: Buffer.alloc(120_012).toString('base64') } } }, 413, 'payload-too-large', []],
])('%s is refused with every fault at its place', async (_name, body, status, code, pointers) => {
  const answer = await post(body);
  expect([answer.status, answer.headers.get('content-type')]).toEqual([status, 'application/problem+json']);
  expect(answer.body).toMatchObject({ type: `/problems/${code}`, status, title: expect.any(String), detail: expect.any(String), instance: expect.any(String) });
  expect((answer.body.errors ?? []).map(({ pointer }: { pointer: string }) => pointer).toSorted()).toEqual([...pointers].toSorted());
});

test.each([
  ['malformed JSON', '{"model":', 'application/json', 400, 'malformed-request'],
  ['NaN as a literal', '{"model":"iris","inputs":[[NaN,1,2,3]]}', 'application/json', 400, 'malformed-request'],
  ['deep nesting', `{"model":"iris","inputs":${'['.repeat(5000)}${']'.repeat(5000)}}`, 'application/json', 400, 'malformed-request'],
  ['a poisoned prototype', '{"model":"iris","__proto__":{"a":1}}', 'application/json', 400, 'malformed-request'],
  ['an empty body', '', 'application/json', 422, 'invalid-prediction'],
  ['another media type', 'model=iris', 'application/x-www-form-urlencoded', 415, 'unsupported-media-type'],
  ['a body over the limit', `{"model":"iris","inputs":"${'x'.repeat(17 * 1024 * 1024)}"}`, 'application/json', 413, 'payload-too-large'],
])('%s is refused before it is read further', async (_name, body, type, status, code) => {
  const answer = await post(body, { 'content-type': type });
  expect([answer.status, answer.body.type]).toEqual([status, `/problems/${code}`]);
});

test('nothing invalid has reached the queue', async () => {
  const metrics = await until(async () => {
    const text = (await send(system, 'GET', '/metrics')).body as string;
    return /millrace_queue_depth\{queue="default\/online",service="api"\} 0/.test(text) && text;
  }, 'depth 0');
  expect(metrics).toMatch(/millrace_rejected_total\{reason="invalid-prediction"/);
});

test('unknown ids, paths and methods have their problems', async () => {
  const known = (await post(iris, wait)).body.id as string;
  const stranger = known.replace(/.(?=-\d+$)/, (last) => (last === 'a' ? 'b' : 'a'));
  expect((await send(system, 'GET', `/api/v1/predictions/${stranger}`)).body.type).toBe('/problems/not-found');
  expect((await send(system, 'GET', '/api/v1/predictions/nonsense')).status).toBe(404);
  const unreadable = await send(system, 'GET', '/api/v1/predictions/%E0%A4%A');
  expect([unreadable.status, unreadable.headers.get('content-type'), unreadable.body.type]).toEqual([400, 'application/problem+json', '/problems/malformed-request']);
  const old = known.replace(/-[0-9a-f]{12}/, '-0180000000ff');
  expect((await send(system, 'GET', `/api/v1/predictions/${old}`)).body).toMatchObject({ type: '/problems/result-expired', status: 410 });
  expect((await send(system, 'GET', '/nowhere')).status).toBe(404);
  const wrong = await send(system, 'DELETE', '/api/v1/predictions');
  expect([wrong.status, wrong.headers.get('allow'), wrong.body.type]).toEqual([405, 'GET, HEAD, POST', '/problems/method-not-allowed']);
  expect((await send(system, 'GET', '/problems/not-found')).body).toMatchObject({ code: 'not-found', status: 404 });
});

test('a deadline that passes before the run expires the prediction', async () => {
  const thaw = freeze(system.workers[0]?.pid);
  const late = await post({ ...iris, deadline_ms: 1 });
  const inTime = await post({ ...iris, deadline_ms: 60_000 });
  await until(() => Date.now() > Date.parse(late.body.created_at) + 5, 'the deadline passes');
  thaw();
  expect((await send(system, 'GET', `${late.body.urls.get}?wait=30`)).body).toMatchObject({ status: 'expired', started_at: null, outputs: null, error: { type: '/problems/deadline-exceeded' } });
  expect((await send(system, 'GET', `${inTime.body.urls.get}?wait=30`)).body.status).toBe('succeeded');
});

test('a canceled prediction stays canceled, and one that has ended cannot be canceled', async () => {
  const heavy = { model: 'digits-deep', inputs: Array.from({ length: 400 }, () => Array.from({ length: 64 }, () => 8)) };
  const thaw = freeze(system.workers[0]?.pid);
  const blocking = await post(heavy);
  const { body } = await post(heavy);
  const waiting = send(system, 'GET', `${body.urls.get}?wait=60`);
  const canceled = await send(system, 'POST', body.urls.cancel);
  expect([canceled.status, canceled.body.status]).toEqual([200, 'canceled']);
  expect((await waiting).body).toMatchObject({ status: 'canceled', outputs: null });
  thaw();
  expect((await send(system, 'POST', body.urls.cancel)).status).toBe(200);
  const other = await send(system, 'GET', `${blocking.body.urls.get}?wait=60`);
  expect(other.body.status).toBe('succeeded');
  expect((await send(system, 'GET', body.urls.get)).body.status).toBe('canceled');
  const refused = await send(system, 'POST', blocking.body.urls.cancel);
  expect([refused.status, refused.body.type]).toEqual([409, '/problems/not-cancelable']);
});

test('everything is settled in the end, and health and metrics say so', async () => {
  expect((await send(system, 'GET', '/healthz')).body.status).toBe('ok');
  expect((await send(system, 'GET', '/readyz')).body).toEqual({ status: 'ok', checks: { redis: { ok: true }, models: { ok: true } } });
  await until(async () => /millrace_queue_depth\{queue="default\/online",service="api"\} 0/.test((await send(system, 'GET', '/metrics')).body as string), 'depth 0');
  const worker = await (await fetch(`${system.workerUrls[0]}/metrics`)).text();
  for (const name of ['predictions_total', 'queue_wait_seconds', 'batch_size', 'inference_duration_seconds', 'prediction_duration_seconds', 'event_loop_lag_seconds']) {
    expect(worker).toContain(`millrace_${name}`);
  }
});
