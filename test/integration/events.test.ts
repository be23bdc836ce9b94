// Event streams: how a prediction and all predictions of a tenant end, told to real EventSource clients.
import { once } from 'node:events';
import { cp, writeFile } from 'node:fs/promises';
import { connect as connectSocket } from 'node:net';
import path from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { type KeyLimits, type Prediction, scopes } from '@millrace/protocol';
import { connect, KeyStore } from '@millrace/queue';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type RedisChild, spawnRedis } from '../../apps/cli/src/embedded/redis-child.ts';
import { Bare, type Followed, follow } from './event-client.ts';
import { startProxy } from './proxy.ts';
import { login, redisServer, userArgs } from './redis-rig.ts';
import { bundledModels, fixtureModels, freePort, predict, send, startApp, startTestSystem, startWorker, temporaryFolder, type TestSystem, until, within } from './rig.ts';

const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
/** Runs for four seconds: so long the worker waits for more rows. */
const held = { ...iris, model: 'held' };

let system: TestSystem;
let redis: Redis;

beforeAll(async () => {
  const models = await temporaryFolder(afterAll);
  await cp(bundledModels, models, { recursive: true, filter: (from) => !/\.(py|txt)$/.test(from) });
  await cp(fixtureModels, models, { recursive: true });
  await cp(path.join(bundledModels, 'iris'), path.join(models, 'held'), { recursive: true });
  await writeFile(path.join(models, 'held', 'model.yaml'), 'batching: { max_rows: 64, max_delay_ms: 4000 }\n');
  // On a port of its own, where it is found again when it is started again.
  system = await startTestSystem({ privateRedis: true, models, port: await freePort() });
  redis = new Redis(system.redisAdminUrl as string);
});
afterAll(async () => {
  redis.disconnect();
  await system.stop();
});

const url = (where: string, of: { url: string } = system) => `${of.url}/api/v1${where}`;
const submit = async (body: object, to = system): Promise<Prediction> => (await send(to, 'POST', '/api/v1/predictions', body)).body;
const batch = async (requests: readonly object[], to = system): Promise<string[]> =>
  (await send(to, 'POST', '/api/v1/predictions:batch', { requests })).body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id);
const many = (count: number) => Array.from({ length: count }, () => iris);
const read = async (id: string): Promise<Prediction> => (await send(system, 'GET', `/api/v1/predictions/${id}?wait=60`)).body;
const cancel = (id: string) => send(system, 'POST', `/api/v1/predictions/${id}/cancel`);
const told = ({ seen }: Pick<Followed, 'seen'>) => seen.map(({ type, id }) => [type, id]);
const endOf = (id: string) => url(`/predictions/${id}/events`);
/** The predictions that a tail has told of, in its order. */
const toldBy = ({ seen }: Pick<Followed, 'seen'>): string[] => seen.filter(({ type }) => type !== 'gap').map(({ data }) => data.data.id);

async function metric(name: string, kind: string): Promise<number> {
  const { body } = await send(system, 'GET', '/metrics');
  return Number(new RegExp(`^${name}\\{kind="${kind}"[^}]*\\} (\\d+)`, 'm').exec(body as string)?.[1] ?? 0);
}

/** Stops a process until the test says so, or has ended. */
function pause(pid: number | undefined): () => void {
  if (pid === undefined) throw new Error('there is no such process');
  process.kill(pid, 'SIGSTOP');
  const go = () => { process.kill(pid, 'SIGCONT'); };
  onTestFinished(go);
  return go;
}
const pauseWorker = () => pause(system.workers[0]?.pid);

async function untilTold(tail: Pick<Followed, 'seen'>, ids: readonly string[]): Promise<void> {
  await until(() => tail.seen.length >= ids.length && new Set(toldBy(tail)).isSupersetOf(new Set(ids)), `${ids.length} ends`);
}

test('a prediction is followed from the queue to its end; then the stream is over for good', async () => {
  const go = pauseWorker();
  const { id } = await submit({ ...held, metadata: { order: '7' } });
  const one = await follow(endOf(id));
  await until(() => one.seen.length === 1, 'the present state');
  expect(one.seen[0]).toMatchObject({ id: 'queued-0', type: 'status', data: { id, status: 'queued', metadata: { order: '7' }, outputs: null } });
  go();
  await until(() => one.source.readyState === one.source.CLOSED, 'the end');
  expect(told(one)).toEqual([['status', 'queued-0'], ['status', 'running-0'], ['completed', 'succeeded-1']]);
  expect(one.seen[2]?.data).toEqual(await read(id));
  expect(one.answers).toEqual([{ status: 200, lastEventId: undefined }, { status: 204, lastEventId: 'succeeded-1' }]);
});

test('every kind of end is told, to those who wait for it and to those who come later', async () => {
  const tail = await follow(url('/events'));
  const go = pauseWorker();
  const made = await Promise.all([iris, { model: 'fails-on-negative', inputs: [[99]] }, iris, { ...iris, deadline_ms: 1 }].map((body) => submit(body)));
  const ids = made.map(({ id }) => id);
  const waiting = await Promise.all(ids.map((id) => follow(endOf(id))));
  expect((await cancel(ids[2] as string)).status).toBe(200);
  go();
  await until(() => waiting.every(({ source }) => source.readyState === source.CLOSED), 'all ends');
  const late = await Promise.all(ids.map((id) => follow(endOf(id))));
  await until(() => late.every(({ source }) => source.readyState === source.CLOSED), 'all ends again');
  await untilTold(tail, ids);

  const ends = [['completed', 'succeeded-1'], ['failed', 'failed-1'], ['canceled', 'canceled-0'], ['expired', 'expired-0']];
  expect(waiting.map((one) => told(one).at(-1))).toEqual(ends);
  expect(late.map(told)).toEqual(ends.map((end) => [end]));
  for (const [place, id] of ids.entries()) {
    const { outputs: _outputs, labels: _labels, ...summary } = await read(id);
    const event = tail.seen.find(({ data }) => data.data.id === id);
    expect(event).toEqual({ id: expect.stringMatching(/^default:[\d-]+,backfills:[\d-]+$/), type: `prediction.${ends[place]?.[0]}`, data: { type: event?.type, timestamp: summary.completed_at, data: summary } });
  }
});

test('results come as they are read: long integers exactly, large ones whole', async () => {
  const go = pauseWorker();
  const exact = await Bare.open(endOf((await send(system, 'POST', '/api/v1/predictions', '{"model":"int64-double","inputs":[[9007199254740993,-9223372036854775808]]}')).body.id));
  const rows = Array.from({ length: 10_000 }, (_, index) => [index + 0.25, index + 0.5]);
  const { id } = await submit({ model: 'dynamic-width', inputs: rows });
  const large = await Bare.open(endOf(id));
  go();
  expect(await exact.text()).toContain('"outputs":{"y":[[9007199254740993,-9223372036854775808]]}');
  const [, end] = /event: completed\ndata: (.*)\n\n$/.exec(await large.text()) ?? [];
  expect((end as string).length).toBeGreaterThan(100_000);
  expect(JSON.parse(end as string)).toEqual(await read(id));
});

test('attempts are told one after the other', async () => {
  const repository = await temporaryFolder();
  await cp(path.join(bundledModels, 'iris'), path.join(repository, 'iris'), { recursive: true });
  const api = await startTestSystem({ models: system.models, workers: 0 });
  onTestFinished(() => api.stop());
  // It has not the model, as in a rolling update.
  await startWorker({ ...api, models: repository });
  const { id } = await submit({ model: 'digits', inputs: [Array.from({ length: 64 }, () => 1)], max_attempts: 4 }, api);
  const one = await follow(url(`/predictions/${id}/events`, api));
  await until(() => one.source.readyState === one.source.CLOSED, 'the end');
  const steps = ['queued-0', 'running-0', 'queued-1', 'running-1', 'queued-2', 'running-2', 'queued-3', 'running-3', 'failed-4'];
  const places = one.seen.map((event) => steps.indexOf(event.id));
  expect(places).toEqual([...new Set(places)].toSorted((a, b) => a - b));
  // It waits for two seconds at least before the last one, and for less before the others.
  expect(one.seen.map((event) => event.id)).toEqual(expect.arrayContaining(['queued-3', 'failed-4']));
  expect(one.seen.at(-1)).toMatchObject({ type: 'failed', data: { attempts: 4, error: { type: '/problems/model-unavailable' } } });
});

test('tails are narrowed to a model, a version and an outcome', async () => {
  const tails = await Promise.all(['', '?model=iris', '?model=iris@1', '?model=iris@2', '?status=failed', '?status=failed&model=iris', '?status=succeeded&model=fails-on-negative']
    .map((query) => follow(url(`/events${query}`))));
  const works = await batch(many(3));
  const fails = await batch([3, 99].map((value) => ({ model: 'fails-on-negative', inputs: [[value]] })));
  const [third, fourth] = fails as [string, string];
  const wanted = [[...works, third, fourth], works, works, [], [fourth], [], [third]];
  await Promise.all(tails.map((tail, index) => untilTold(tail, wanted[index] as string[])));
  // After this one nothing of the others can be on its way.
  const last = await batch([iris, { model: 'fails-on-negative', inputs: [[98]] }]);
  await untilTold(tails[0] as Followed, last);
  await untilTold(tails[1] as Followed, [last[0] as string]);
  expect(tails.slice(3, 6).map((tail) => toldBy(tail).filter((id) => !last.includes(id)))).toEqual([[], [fourth], []]);
  expect(new Set(toldBy(tails[1] as Followed))).toEqual(new Set([...works, last[0]]));
});

test('what cannot be followed is refused', async () => {
  const { id } = await submit(iris);
  const stranger = id.replace(/.(?=-\d+$)/, (last) => (last === 'a' ? 'b' : 'a'));
  const old = id.replace(/-0/, '-00');
  const answers = await Promise.all([
    `/predictions/${stranger}/events`, '/predictions/nonsense/events', `/predictions/${old}/events`,
    '/events?status=queued', '/events?model=A', '/events?modell=iris',
  ].map((where) => send(system, 'GET', `/api/v1${where}`)));
  expect(answers.map(({ status }) => status)).toEqual([404, 404, 404, 400, 400, 400]);
  for (const position of ['nonsense', 'default:1', 'default:1-1,', 'default:1-1;gpu:1-1', `default:${'9'.repeat(30)}-1`]) {
    const { status, body } = await send(system, 'GET', '/api/v1/events', undefined, { 'last-event-id': position });
    expect([position, status, body.type, body.errors]).toEqual([position, 400, '/problems/malformed-request', [{ pointer: '#/headers/last-event-id', detail: expect.any(String) }]]);
  }
  expect((await send(system, 'HEAD', '/api/v1/events')).status).toBe(405);
});

test('a result that is gone cannot be followed any more', async () => {
  const brief = await startTestSystem({ models: system.models, env: { MILLRACE_RETENTION_SECONDS: '1' } });
  onTestFinished(() => brief.stop());
  const { body: { id } } = await predict(brief, 'iris', iris.inputs);
  const gone = await until(async () => {
    const answer = await send(brief, 'GET', `/api/v1/predictions/${id}/events`);
    return answer.status !== 200 && answer;
  }, 'the result expires');
  expect([gone.status, gone.body.type]).toEqual([410, '/problems/result-expired']);
});

test('a stream whose prediction Redis has lost ends, and whoever comes back is told', async () => {
  const go = pauseWorker();
  const { id } = await submit(iris);
  const one = await follow(endOf(id));
  await redis.del(...await redis.keys(`millrace:{default}:online:${id.replace(/-0$/, '')}*`));
  await until(() => one.source.readyState === one.source.CLOSED, 'the end');
  expect(one.answers.map(({ status }) => status)).toEqual([200, 404]);
  go();
});

test('a tail that is cut again and again misses nothing and is told nothing twice', async () => {
  const proxy = await startProxy(new URL(system.url));
  const tail = await follow(`${proxy.url}/api/v1/events`);
  const ids: string[] = [];
  for (let cuts = 0; cuts < 3; cuts++) {
    const opened = tail.answers.length;
    ids.push(...await batch(many(40)));
    // In the middle of it: some of them have been told, or none.
    proxy.cut();
    ids.push(...await batch(many(40)));
    await until(() => tail.answers.length > opened, 'it comes back');
  }
  await untilTold(tail, ids);
  expect(toldBy(tail).toSorted()).toEqual(ids.toSorted());
  expect(tail.seen.map(({ type }) => type)).not.toContain('gap');
  expect(tail.answers.length).toBeGreaterThan(3);
});

test('a tail goes on after any of its events, also in the middle of a bundle', async () => {
  const tail = await follow(url('/events'));
  const ids = await batch(many(30));
  await untilTold(tail, ids);
  for (const [place, { id }] of tail.seen.entries()) {
    const again = await Bare.open(url('/events'), { 'last-event-id': id });
    const rest = tail.seen.slice(place + 1);
    await until(() => again.seen.length >= rest.length, 'the rest');
    expect(again.seen).toEqual(rest);
    again.leave();
  }
});

test('an API that is killed and comes back goes on where it was', async () => {
  const go = pauseWorker();
  const tail = await follow(url('/events'));
  const ids = await batch(many(100));
  const one = await follow(endOf(ids[0] as string));
  await until(() => one.seen.length === 1, 'the present state');
  process.kill(system.api.pid as number, 'SIGKILL');
  await until(() => tail.source.readyState === tail.source.CONNECTING, 'the tail is cut');
  go();
  await untilTold(tail, ids);
  await until(() => one.source.readyState === one.source.CLOSED, 'the end');
  expect(toldBy(tail).toSorted()).toEqual(ids.toSorted());
  expect(tail.seen.map(({ type }) => type)).not.toContain('gap');
  expect(told(one).filter(([, id]) => id === 'queued-0')).toHaveLength(1);
  expect(told(one).at(-1)).toEqual(['completed', 'succeeded-1']);
});

test('what a tail may have missed is told as a gap, and it goes on', async () => {
  const feed = 'millrace:{default}:feed:default';
  const tail = await follow(url('/events'));
  const [first] = await batch(many(1)) as [string];
  await untilTold(tail, [first]);
  const { id: position } = tail.seen.at(-1) as { id: string };
  await redis.del(feed);
  await until(() => tail.seen.some(({ type }) => type === 'gap'), 'the gap');
  const [second] = await batch(many(1)) as [string];
  await untilTold(tail, [first, second]);
  expect(tail.seen.map(({ type }) => type)).toEqual(['prediction.completed', 'gap', 'prediction.completed']);
  expect(tail.seen[1]?.data).toEqual({ type: 'gap', timestamp: expect.any(String), data: { pool: 'default' } });

  const third = await batch(many(1));
  await untilTold(tail, third);
  await redis.xtrim(feed, 'MAXLEN', 1);
  for (const [after, types] of [[position, ['gap', 'prediction.completed']], [tail.seen.at(-1)?.id, []]] as const) {
    const resumed = await Bare.open(url('/events'), { 'last-event-id': after as string });
    await until(() => resumed.seen.length === types.length, 'what there is');
    expect(resumed.seen.map(({ type }) => type)).toEqual(types);
    expect(new Set(toldBy(resumed))).toEqual(new Set(third.slice(0, types.length)));
  }
  const elsewhere = await follow(url('/events'), { 'last-event-id': `${tail.seen.at(-1)?.id},nowhere:1-1` });
  await until(() => elsewhere.seen.length === 1, 'the gap');
  expect(elsewhere.seen[0]).toMatchObject({ type: 'gap', data: { data: { pool: 'nowhere' } } });
});

test('a pool that appears is followed too', async () => {
  const tail = await follow(url('/events'));
  await cp(path.join(bundledModels, 'iris'), path.join(system.models, 'late-iris'), { recursive: true });
  await writeFile(path.join(system.models, 'late-iris', 'model.yaml'), 'pool: late\n');
  await startWorker(system, { MILLRACE_POOL: 'late' });
  await until(() => tail.seen.some(({ data }) => data.data.pool === 'late'), 'the pool');
  const [late, usual] = await Promise.all([submit({ ...iris, model: 'late-iris' }), submit(iris)]);
  await untilTold(tail, [late.id, usual.id]);
  const position = tail.seen.at(-1)?.id as string;
  expect(position).toMatch(/^default:[\d-]+,backfills:[\d-]+,late:[\d-]+$/);
  const again = await follow(url('/events'), { 'last-event-id': position });
  const next = await submit({ ...iris, model: 'late-iris' });
  await untilTold(again, [next.id]);
  expect(toldBy(again)).toEqual([next.id]);
});

test('whoever does not read is dropped, and all others go on', async () => {
  const before = await metric('millrace_event_streams_dropped_total', 'tail');
  const slow = await Bare.open(url('/events'));
  await until(() => slow.lastEventId !== '', 'its place');
  slow.response.pause();
  const tail = await follow(url('/events'));
  const metadata = Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`m${index}`, 'x'.repeat(1000)]));
  const ids: string[] = [];
  for (let count = 0; count < 10; count++) ids.push(...await batch(many(60).map((one) => ({ ...one, metadata }))));
  await untilTold(tail, ids);
  await until(async () => await metric('millrace_event_streams_dropped_total', 'tail') > before, 'it is dropped');
  expect(toldBy(tail).toSorted()).toEqual(ids.toSorted());
  // One that comes late and reads is not: 18 MB at its own pace.
  const late = await Bare.open(url('/events'), { 'last-event-id': slow.lastEventId });
  await until(() => late.seen.length >= ids.length, 'all of it');
  expect(late.seen.map(({ data }) => data.data.id)).toEqual(toldBy(tail));
  expect(await metric('millrace_event_streams_dropped_total', 'tail')).toBe(before + 1);
});

test('streams stay open while Redis is away, and tell what ends after it is back', async () => {
  const [folder, port] = [await temporaryFolder(), await freePort()];
  const start = (): Promise<RedisChild> => spawnRedis(redisServer(), ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'yes', ...userArgs]);
  let server = await start();
  onTestFinished(() => server.stop());
  const own = await startTestSystem({ models: system.models, redisUrl: `redis://${login}@127.0.0.1:${port}` });
  onTestFinished(() => own.stop());
  const go = pause(own.workers[0]?.pid);
  const tail = await follow(url('/events', own));
  const ids = await batch(many(100), own);
  const one = await follow(url(`/predictions/${ids[0]}/events`, own));
  await server.stop();
  await until(async () => (await send(own, 'GET', '/readyz')).status === 503, 'Redis is away');
  const refused = await send(own, 'GET', `/api/v1/predictions/${ids[1]}/events`);
  expect([refused.status, refused.body.type]).toEqual([503, '/problems/queue-unavailable']);
  server = await start();
  go();
  await untilTold(tail, ids);
  await until(() => one.source.readyState === one.source.CLOSED, 'the end');
  expect(toldBy(tail).toSorted()).toEqual(ids.toSorted());
  expect([tail.answers.length, one.answers.map(({ status }) => status)]).toEqual([1, [200, 204]]);
});

test('tenants are told of their own predictions only, and a revoked key ends its streams', async () => {
  const own = await startTestSystem({ models: system.models });
  onTestFinished(() => own.stop());
  const anybody = await follow(url('/events', own));
  const admin = connect({ redisUrl: own.redisAdminUrl as string }, 'worker', () => {});
  onTestFinished(() => admin.disconnect());
  const store = new KeyStore(admin);
  const keyOf = async (tenant: string, limits: KeyLimits = {}) => {
    const { key, text } = await store.create({ tenant, name: undefined, scopes, expiresAt: undefined, limits }, Date.now());
    return { key, headers: { authorization: `Bearer ${text}` } };
  };
  const [a, b] = [await keyOf('a'), await keyOf('b')];
  await until(async () => (await send(own, 'GET', '/api/v1/models', undefined, b.headers)).status === 200, 'the keys are known');
  // It had no key when nobody needed one.
  await until(() => anybody.source.readyState === anybody.source.CLOSED, 'the door shuts');

  const [ofA, ofB] = [await follow(url('/events', own), a.headers), await follow(url('/events', own), b.headers)];
  const post = async (headers: Record<string, string>): Promise<string> => (await send(own, 'POST', '/api/v1/predictions', iris, { ...headers, prefer: 'wait=30' })).body.id;
  const [fromA, fromB] = [await post(a.headers), await post(b.headers)];
  await untilTold(ofA, [fromA]);
  await untilTold(ofB, [fromB]);
  expect([toldBy(ofA), toldBy(ofB)]).toEqual([[fromA], [fromB]]);
  expect((await send(own, 'GET', `/api/v1/predictions/${fromA}/events`, undefined, b.headers)).status).toBe(404);

  await store.revoke(a.key.id, Date.now());
  await until(() => ofA.source.readyState === ofA.source.CLOSED, 'the revocation');
  expect(ofA.answers.map(({ status }) => status)).toEqual([200, 401]);
  const after = await post(b.headers);
  await untilTold(ofB, [fromB, after]);
  expect(ofB.answers).toHaveLength(1);

  const limited = await keyOf('c', { requestsInFlight: 1 });
  const models = () => send(own, 'GET', '/api/v1/models', undefined, limited.headers);
  await until(async () => (await models()).status === 200, 'the key is known');
  const only = await Bare.open(url('/events', own), limited.headers);
  expect((await models()).status).toBe(429);
  only.leave();
  await until(async () => (await models()).status === 200, 'there is room');
});

test('an API that stops ends its streams, and at once', async () => {
  const go = pauseWorker();
  const { child, logs, ended } = startApp('api', { REDIS_URL: system.redisUrl, MILLRACE_MODELS: system.models, MILLRACE_PORT: '0' });
  const ready = await until(() => logs.find(({ msg }) => msg === 'api is ready'), 'another API');
  const at = { url: String(ready['url']) };
  const ids = await batch(many(20));
  const streams = await Promise.all([...ids.map((id) => `/predictions/${id}/events`), ...ids.map(() => '/events')].map((where) => Bare.open(url(where, at))));
  child.kill('SIGTERM');
  // `text` rejects where a stream is cut off.
  await Promise.all(streams.map((stream) => stream.text()));
  expect(await within(20, ended, 'the end of the API')).toEqual([0, null]);
  expect(logs.map(({ msg }) => msg)).not.toContain('grace period is over, exiting');
  go();
});

test('whoever leaves is forgotten, at whatever moment', async () => {
  const go = pauseWorker();
  const { id } = await submit(iris);
  await Promise.all(Array.from({ length: 300 }, async (_, index) => {
    const socket = connectSocket(Number(new URL(system.url).port), '127.0.0.1');
    onTestFinished(() => { socket.destroy(); });
    await once(socket, 'connect');
    socket.write(`GET /api/v1${index % 2 ? '/events' : `/predictions/${id}/events`} HTTP/1.1\r\nhost: x\r\n\r\n`);
    await setImmediate();
    if (index % 3 > 0) await once(socket, 'data');
    socket.destroy();
  }));
  await until(async () => await metric('millrace_event_streams', 'tail') + await metric('millrace_event_streams', 'prediction') === 0, 'they are forgotten');
  go();
  expect((await read(id)).status).toBe('succeeded');
});

test('1,000 streams are open on one API, all are told, and those that leave are forgotten', async () => {
  await until(async () => await metric('millrace_event_streams', 'tail') + await metric('millrace_event_streams', 'prediction') === 0, 'those of other tests are gone');
  const go = pauseWorker();
  const ids = await batch(many(400));
  const tails = await Promise.all(Array.from({ length: 600 }, (_, index) => Bare.open(url(['/events', '/events?model=iris', '/events?status=succeeded'][index % 3] as string))));
  const ones = await Promise.all(ids.map((id) => Bare.open(endOf(id))));
  expect([await metric('millrace_event_streams', 'tail'), await metric('millrace_event_streams', 'prediction')]).toEqual([600, 400]);
  go();
  await Promise.all(ones.map((one) => one.text()));
  expect(new Set(ones.map((one) => one.seen.at(-1)?.type))).toEqual(new Set(['completed']));
  expect(ones.map((one) => one.seen.at(-1)?.data.id)).toEqual(ids);
  await until(() => tails.every((tail) => tail.seen.length === ids.length), 'all tails');
  for (const tail of tails) expect(new Set(toldBy(tail))).toEqual(new Set(ids));
  for (const tail of tails) tail.leave();
  await until(async () => await metric('millrace_event_streams', 'tail') === 0, 'they are forgotten');
  expect(await metric('millrace_event_streams', 'prediction')).toBe(0);
});
