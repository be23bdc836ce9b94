// Secrets and tensors stand in no log: known values go everywhere that values can go, much is made to fail, and all that the API,
// workers and Redis have written, at their most talkative, is searched for them.
import { once } from 'node:events';
import { connect as connectSocket } from 'node:net';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { newKeyText, parsePredictionId, scopes } from '@millrace/protocol';
import { connect, KeyStore, type Redis } from '@millrace/queue';
import { expect, onTestFinished, test } from 'vitest';
import { findRedisServer } from '../../apps/cli/bin/redis-server.mjs';
import { type RedisChild, spawnRedis } from '../../apps/cli/src/embedded/redis-child.ts';
import { fixtureModels, freePort, startApp, temporaryFolder, type TestProcess, until } from './rig.ts';

const password = 'canaryPassword7f3a91';
const wrongPassword = 'canaryWrong52c8e4';
const text = 'canaryTensor19d06b';
const metadata = 'canaryMetadata8e27c5';
const header = 'canaryHeader4b90fa';
const target = 'canaryTarget60ad3b';
/** Nothing is sent there: no dispatcher runs. */
const webhook = { url: `https://93.184.215.14/${target}` };
/** A float32 holds it exactly. */
const number = 31_415_926;
/** 64 KiB of numbers and more travel beside their bundle. */
const rows = Array.from({ length: 6000 }, () => [number, number, number]);
const large = { model: 'two-in-two-out', inputs: { a: rows, b: rows } };

/** The value as text, base64 at any offset, hex, and as the list of its bytes. */
function formsOf(value: string | Buffer): string[] {
  const bytes = Buffer.from(value);
  const base64 = [0, 1, 2].map((before) => Buffer.concat([Buffer.alloc(before), bytes]).toString('base64').slice(Math.ceil(before * 8 / 6), Math.floor((before + bytes.length) * 8 / 6)));
  return [...base64, ...base64.map((form) => form.replaceAll('+', '-').replaceAll('/', '_')), bytes.toString('hex'), bytes.join(','), ...(typeof value === 'string' ? [value] : [])];
}

class System {
  readonly #redisLines: string[] = [];
  readonly #apps: TestProcess[] = [];
  readonly #env: Record<string, string>;
  readonly port: number;
  readonly folder: string;
  redis!: RedisChild;
  url = '';

  constructor(port: number, folder: string) {
    this.port = port;
    this.folder = folder;
    this.#env = { MILLRACE_MODELS: fixtureModels, MILLRACE_PORT: '0', MILLRACE_METRICS_PORT: '0', MILLRACE_LOG_LEVEL: 'trace' };
  }

  get redisUrl(): string {
    return `redis://default:${password}@127.0.0.1:${this.port}/0`;
  }

  /** What a person at the terminal, or whoever reads the files, would see. */
  get output(): string {
    return [...this.#apps.map(({ logs }) => JSON.stringify(logs)), ...this.#redisLines].join('\n');
  }

  async startRedis(): Promise<void> {
    const settings = ['--port', String(this.port), '--bind', '127.0.0.1', '--requirepass', password, '--dir', this.folder, '--appendonly', 'yes', '--save', '', '--loglevel', 'debug'];
    this.redis = await spawnRedis(findRedisServer() as string, settings, (line) => this.#redisLines.push(line));
  }

  start(app: 'api' | 'worker', redisUrl = this.redisUrl): TestProcess {
    const started = startApp(app, { ...this.#env, REDIS_URL: redisUrl });
    this.#apps.push(started);
    return started;
  }

  async startReady(app: 'api' | 'worker'): Promise<TestProcess> {
    const started = this.start(app);
    const ready = await until(() => started.logs.find(({ msg }) => msg === `${app} is ready`), app);
    if (app === 'api') this.url = String(ready['url']);
    return started;
  }

  leaks(values: readonly (string | Buffer)[], output = this.output): string[] {
    return values.flatMap(formsOf).filter((form) => output.includes(form));
  }
}

const hasLogged = ({ logs }: TestProcess, message: string) => until(() => logs.some(({ msg }) => msg === message), message);

async function startSystem(): Promise<{ system: System; api: TestProcess; worker: TestProcess; redis: Redis }> {
  const system = new System(await freePort(), await temporaryFolder());
  await system.startRedis();
  onTestFinished(() => system.redis.stop());
  const redis = connect(system, 'worker', () => {});
  onTestFinished(() => redis.disconnect());
  return { system, api: await system.startReady('api'), worker: await system.startReady('worker'), redis };
}

test('no secret and no tensor is logged, whatever fails', async () => {
  const { system, api, worker, redis } = await startSystem();
  const { text: key } = await new KeyStore(redis).create({ tenant: 'a', name: undefined, scopes, expiresAt: undefined, limits: { predictionsPerMinute: 1_000_000 } }, Date.now());
  const secret = key.slice(17);
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}`, 'x-api-key': key, 'x-trace': header, cookie: `session=${header}` };
  const predictions = `${system.url}/api/v1/predictions`;
  /** What a test reads out of an answer. */
  type Body = { readonly id: string; readonly status: string };
  const post = (body: unknown, more: Record<string, string> = {}) =>
    fetch(predictions, { method: 'POST', headers: { ...headers, ...more }, body: typeof body === 'string' ? body : JSON.stringify(body) });
  const strings = { model: 'string-concat', inputs: [[text, text]], metadata: { note: metadata }, webhook };
  const floats = { model: 'fails-on-negative', inputs: [[number]], metadata: { note: metadata } };
  const wait = { prefer: `wait=30, ${header}` };
  const succeeds = (body: unknown) => until(async () => (await (await post(body, wait)).json() as Body).status === 'succeeded', 'a prediction', 90);
  await until(async () => (await fetch(`${system.url}/api/v1/models`)).status === 401, 'the key is known');

  // What goes well, and what the model refuses. The caller sees the values, so the search finds what is there to be found.
  await succeeds(strings);
  await succeeds(large);
  const refused = await (await post(floats, wait)).text();
  expect(system.leaks([String(number), metadata], refused)).toEqual([String(number), metadata]);

  const signing = (await (await fetch(`${system.url}/api/v1/webhook-secret`, { headers })).json() as { secret: string }).secret.slice('whsec_'.length);
  const endpoints = `${system.url}/api/v1/webhook-endpoints`;
  const register = (url: string) => fetch(endpoints, { method: 'POST', headers, body: JSON.stringify({ url, description: target }) });
  expect((await register(webhook.url)).status).toBe(201);

  // What the API refuses.
  const answers = await Promise.all([
    post(`{"model":"iris","inputs":"${text}`), post(`{"${text}":NaN}`), post({ model: text, inputs: text }), post({ ...strings, inputs: [[number, text]] }), post({ ...strings, surprise: text }),
    post({ ...strings, webhook: { url: `https://10.0.0.1/${target}` } }), register(`https://me:${target}@example.com/`), fetch(`${endpoints}/${target}`, { headers }),
    post(strings, { 'content-type': `text/${header}` }), post(strings, { 'content-encoding': header }), post(strings, { 'content-encoding': 'gzip' }),
    post(strings, { authorization: `Bearer ${newKeyText().slice(0, 17)}${secret}` }), post(strings, { authorization: `Basic ${header}` }),
    fetch(`${predictions}/${header}?wait=${header}`, { headers }), fetch(`${system.url}/${header}?key=${key}`, { headers, method: 'POST', body: await promisify(gzip)(text) }),
  ]);
  expect(answers.filter(({ status }) => status < 400 || status >= 500)).toEqual([]);
  for (const raw of [`GET / HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\nbad header ${header}\r\n\r\n`, `POST /api/v1/predictions HTTP/1.1\r\nhost: x\r\nx-api-key: ${key}\r\ntransfer-encoding: chunked\r\n\r\n${text}`]) {
    const socket = connectSocket(Number(new URL(system.url).port), '127.0.0.1', () => socket.write(raw));
    await once(socket.resume(), 'close');
  }
  await hasLogged(api, 'client error');

  // What stands in Redis is not what was put there: a bundle and a payload.
  process.kill(worker.child.pid as number, 'SIGSTOP');
  const broken = await (await post(strings)).json() as Body;
  const lost = await (await post(large)).json() as Body;
  const keyOf = (id: string, name: string) => `millrace:{default}:${name}:${name === 'online' ? parsePredictionId(id)?.bundleId : id}`;
  await redis.hset(keyOf(broken.id, 'online'), 'data', `[${text}]`);
  expect(await redis.set(keyOf(lost.id, 'payload'), `${text}${password}`, 'XX')).toBe('OK');
  process.kill(worker.child.pid as number, 'SIGCONT');
  await hasLogged(worker, 'inputs cannot be decoded');
  await hasLogged(worker, 'claiming failed');
  await redis.del(keyOf(broken.id, 'online'));

  // Redis refuses: no memory, no permission. Then it hangs, and dies.
  const refusals: [[string, ...string[]], [string, ...string[]], string][] = [
    [['config', 'set', 'maxmemory', '1'], ['config', 'set', 'maxmemory', '0'], 'OOM'],
    [['acl', 'setuser', 'default', '-hset', '-evalsha', '-eval', '-set'], ['acl', 'setuser', 'default', '+@all'], 'NOPERM'],
  ];
  for (const [refuse, allow, code] of refusals) {
    process.kill(worker.child.pid as number, 'SIGSTOP');
    await Promise.all([post(strings), post(large), post(floats)]);
    await redis.call(...refuse);
    process.kill(worker.child.pid as number, 'SIGCONT');
    expect((await post(strings)).status).toBe(503);
    await until(() => JSON.stringify(worker.logs).includes(code), 'the worker is refused');
    await redis.call(...allow);
    await succeeds(strings);
  }
  process.kill(system.redis.pid, 'SIGSTOP');
  const hanging = [post(strings, wait), post(large), post(floats), fetch(`${predictions}/${lost.id}`, { headers }), register(webhook.url)];
  await Promise.race(hanging);
  process.kill(system.redis.pid, 'SIGKILL');
  expect((await Promise.all(hanging)).map(({ status }) => status)).toEqual(hanging.map(() => 503));
  await hasLogged(worker, 'Redis connection failed');
  await hasLogged(api, 'Redis connection failed');
  await system.startRedis();
  await succeeds(strings);

  // A worker is killed over its work, and another one does it again.
  await Promise.all(Array.from({ length: 20 }, () => post(large)));
  process.kill(worker.child.pid as number, 'SIGKILL');
  const second = await system.startReady('worker');
  await succeeds(strings);

  // Processes that cannot start: the wrong password, and a URL that is none.
  const stranger = system.start('api', `redis://default:${wrongPassword}@127.0.0.1:${system.port}`);
  await hasLogged(stranger, 'Redis connection failed');
  for (const url of [`redis://default:${wrongPassword}@127.0.0.1:port`, `redis:// ${wrongPassword}@x y`, `http://${wrongPassword}@127.0.0.1`]) {
    for (const app of ['api', 'worker'] as const) expect((await system.start(app, url).ended)[0]).toBeGreaterThan(0);
  }
  for (const { child, ended } of [second, api]) {
    child.kill('SIGTERM');
    await ended;
  }

  for (const failure of ['Parse Error', 'not valid JSON', 'OOM', 'NOPERM', 'ECONNREFUSED', 'WRONGPASS', 'got something else']) {
    expect([failure, system.output.includes(failure)]).toEqual([failure, true]);
  }
  expect(system.leaks([password, wrongPassword, secret, signing, target, text, metadata, header, String(number), Buffer.from(Float32Array.of(number).buffer)])).toEqual([]);
}, 300_000);
