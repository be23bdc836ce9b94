// The command line as a user meets it: what it prints, how it exits, and that nothing stays behind.
import { type ChildProcess, spawn } from 'node:child_process';
import { stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Prediction } from '@millrace/protocol';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { descendants, launch, lives, millrace, output, stop } from './cli-rig.ts';
import { startTestSystem, temporaryFolder, type TestSystem, until, within } from './rig.ts';

const irisInputs = '[[5.1,3.5,1.4,0.2]]';

let system: TestSystem;
beforeAll(async () => { system = await startTestSystem(); });
afterAll(() => system.stop());

interface Up {
  readonly child: ChildProcess;
  readonly url: string;
  readonly said: { readonly out: string; readonly err: string };
}

/** Starts `millrace up` on free ports and waits for what it prints at the end of its start. */
async function up(data: string, args: readonly string[] = [], more: Record<string, string> = {}): Promise<Up> {
  const { child, said } = launch(['up', '--port', '0', '--data', data, ...args], 'ignore', more);
  await until(() => {
    if (child.exitCode !== null) throw new Error(`millrace up ended: ${said.err}`);
    return said.out.includes('Ctrl-C');
  }, 'millrace up');
  return { child, said, url: /http:\/\/[\d.]+:\d+/.exec(said.out)?.[0] as string };
}

/** Pastes the line into a shell; where there is no curl, sends what it would send. */
async function paste(line: string): Promise<Prediction> {
  const hasCurl = await output('curl', ['--version']).then(() => true, () => false);
  if (hasCurl) return JSON.parse(await output('bash', ['-c', line]));
  const url = /curl -s (\S+)/.exec(line)?.[1] as string;
  const headers = [...line.matchAll(/-H '([^:]+): ([^']+)'/g)].map(([, name, value]): [string, string] => [name as string, value as string]);
  const body = /-d '([^']+)'/.exec(line)?.[1] as string;
  return await (await fetch(url, { method: 'POST', headers, body })).json() as Prediction;
}

test('up says where everything is, with a line to paste, and ends on Ctrl-C without a trace', async () => {
  const { child, said, url } = await up(await temporaryFolder());
  const pids = await descendants(child.pid as number);
  expect(pids.length).toBeGreaterThanOrEqual(3);
  const urls = [...said.out.matchAll(/^ {2}(?:API|Reference|Metrics| +) +(http:\S+)$/gm)].map(([, one]) => one as string);
  expect(urls).toEqual([`${url}/api/v1`, `${url}/docs`, `${url}/metrics`, expect.stringMatching(/\/metrics$/)]);
  for (const one of urls.slice(1)) expect((await fetch(one)).status).toBe(200);
  const line = /^ {2}(curl .+)$/m.exec(said.out)?.[1] as string;
  expect(await paste(line)).toMatchObject({ status: 'succeeded', error: null });

  expect(await stop(child)).toBe(0);
  expect(pids.filter(lives)).toEqual([]);
  expect(said.err).not.toMatch(/ERROR|FATAL/);
});

test('up with as many workers as there is work for starts the first one when it is wanted, and leaves no process behind', async () => {
  const { child, said } = await up(await temporaryFolder(), ['--workers', '0..1']);
  expect(said.out).toContain('0 to 1 workers, as there is work.');
  const before = await descendants(child.pid as number);
  expect(await paste(/^ {2}(curl .+)$/m.exec(said.out)?.[1] as string)).toMatchObject({ status: 'succeeded' });
  const pids = await descendants(child.pid as number);
  expect(pids).toHaveLength(before.length + 1);
  await until(() => said.err.includes('default worker 1: worker is ready'), 'its line');
  expect(await stop(child)).toBe(0);
  expect(pids.filter(lives)).toEqual([]);
});

test('no process outlives an up that is killed, whether all are ready or still starting', async () => {
  const { child } = await up(await temporaryFolder(), ['--workers', '1..1']);
  const early = launch(['up', '--port', '0', '--data', await temporaryFolder(), '--workers', '2']).child;
  await until(async () => (await descendants(early.pid as number)).length === 5, 'the processes of the other one');
  const pids = (await Promise.all([child, early].map(async ({ pid = 0 }) => descendants(pid)))).flat();
  expect(pids.filter(lives)).toEqual(pids);
  for (const one of [child, early]) one.kill('SIGKILL');
  await until(() => pids.filter(lives).length === 0, 'they have ended');
});

test('no process outlives a launcher that is killed', async () => {
  const launcher = spawn(process.execPath, [path.resolve('apps/cli/bin/millrace.mjs'), 'up', '--port', '0', '--data', await temporaryFolder()], { stdio: ['ignore', 'pipe', 'ignore'] });
  onTestFinished(() => { launcher.kill(); });
  await until(async () => (await descendants(launcher.pid as number)).length === 5, 'its processes');
  const pids = await descendants(launcher.pid as number);
  expect(pids.filter(lives)).toEqual(pids);
  launcher.kill('SIGKILL');
  await until(() => pids.filter(lives).length === 0, 'they have ended');
});

test('a second up on the same data is refused in one sentence', async () => {
  const data = await temporaryFolder();
  await up(data);
  const { code, out, err } = await millrace(['up', '--port', '0', '--data', data]);
  expect([code, out]).toEqual([1, '']);
  expect(err).toMatch(/^The data folder \S+ is in use by process \d+: [^\n]+\n$/);
});

test.each([
  ['a port that is taken', () => ['--port', new URL(system.url).port], /EADDRINUSE/],
  ['no models', () => ['--port', '0', '--models', '/nowhere'], /there is no such folder/],
  ['a port that is none', () => ['--port', '70000'], /MILLRACE_PORT: expected/],
])('up with %s says so and ends', async (_name, args, says) => {
  const { code, out, err } = await within(60, millrace(['up', '--data', await temporaryFolder(), ...args()]), 'the end');
  expect([code, out]).toEqual([1, '']);
  expect(err.trim().split('\n').at(-1)).toMatch(says);
});

test('what was queued before a restart of up is done after it', async () => {
  const data = await temporaryFolder();
  const first = await up(data);
  const digits = Array.from({ length: 8 }, () => Array.from({ length: 64 }, () => 8));
  const response = await fetch(`${first.url}/api/v1/predictions:batch`, {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ requests: Array.from({ length: 200 }, () => ({ model: 'digits-deep', inputs: digits })) }),
  });
  const { results } = await response.json() as { results: { prediction: Prediction }[] };
  expect(await stop(first.child)).toBe(0);

  const second = await up(data);
  const ends = await Promise.all(results.map(async ({ prediction }) => await (await fetch(`${second.url}/api/v1/predictions/${prediction.id}?wait=60`)).json() as Prediction));
  expect(ends).toHaveLength(200);
  expect(new Set(ends.map(({ status }) => status))).toEqual(new Set(['succeeded']));
});

test('predict prints the result, of inputs as an argument or from standard input', async () => {
  const { code, out } = await millrace(['predict', 'iris', irisInputs, '--url', system.url]);
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ status: 'succeeded', labels: ['setosa'], outputs: { label: [0] } });
  const piped = await millrace(['predict', 'iris@champion', '--json', '--url', system.url], irisInputs);
  expect(piped.code).toBe(0);
  expect(JSON.parse(piped.out)).toMatchObject({ object: 'prediction', version: 1, labels: ['setosa'] });
});

test.each([
  ['inputs of a wrong shape', ['iris', '[[1,2]]'], /^The prediction does not fit[^\n]*\n {2}#\/inputs: /],
  ['inputs of a wrong type', ['iris', '[[1,2,"x",4]]'], /\n {2}#\/inputs\/0\/2: /],
  ['an unknown model', ['nope', '[[1]]'], /no model "nope"[^\n]*\n {2}#\/model: /],
  ['inputs that are no JSON', ['iris', '[[1,2'], /JSON/],
  ['a file that is not there', ['iris', '--file', 'no-such-file.json'], /no-such-file\.json/],
])('predict with %s exits with 1 and says where the fault is', async (_name, args, says) => {
  const { code, out, err } = await millrace(['predict', ...args, '--url', system.url]);
  expect([code, out]).toEqual([1, '']);
  expect(err).toMatch(says);
  expect(err).not.toMatch(/^ +at /m);
});

test('an API that cannot be reached exits with 3', async () => {
  for (const args of [['predict', 'iris', irisInputs], ['models']]) {
    const { code, out, err } = await millrace([...args, '--url', 'http://127.0.0.1:9']);
    expect([code, out]).toEqual([3, '']);
    expect(err).toMatch(/^http:\/\/127\.0\.0\.1:9 cannot be reached: [^\n]+\n$/);
  }
});

test.each(['nonsense', 'predict', 'up --port eighty', 'up --workers 3..1', 'up --workers many', 'models --surprise'])('wrong usage exits with 2: %s', async (line) => {
  const { code, out, err } = await millrace(line.split(' '));
  expect([code, out]).toEqual([2, '']);
  expect(err).toMatch(/^error: /);
});

test('models are listed with versions, aliases and signatures', async () => {
  const { code, out } = await millrace(['models', '--url', system.url]);
  expect(code).toBe(0);
  expect(out).toMatch(/^iris@1 +@champion +features float32\[batch, ?4\] -> label int64\[batch\], probabilities float32\[batch, ?3\]$/m);
  expect(out).toMatch(/^no-batch@1 +x float32\[3, ?2\], y float32/m);
});

test('demo classifies the digits, sends a webhook, shows a fleet that loses a worker and nothing else, and leaves nothing behind', async () => {
  const { code, out } = await millrace(['demo']);
  expect(code).toBe(0);
  expect(Number(/accuracy +([\d.]+) %/.exec(out)?.[1])).toBeGreaterThan(97);
  expect(out.match(/signature verified, answered (\d+)/g)).toEqual([500, 500, 204].map((status) => `signature verified, answered ${status}`));
  const story = ['workers wanted: 3', 'kill -9 of default worker', 'is dead, and is started again', '800 of 800 have succeeded, 0 are lost', 'workers wanted: 1 (idle)', 'has gone', 'Stopped.'];
  expect(story.filter((part) => !out.includes(part))).toEqual([]);
  const url = /Up at (\S+)\./.exec(out)?.[1] as string;
  await expect(fetch(url)).rejects.toThrow('fetch failed');
});

test('keys are made, listed and revoked in the Redis of a running up, which then opens every address', async () => {
  const data = await temporaryFolder();
  const early = await within(60, millrace(['up', '--port', '0', '--data', data, '--host', '0.0.0.0']), 'the end');
  expect([early.code, early.err.trim().split('\n').at(-1)]).toEqual([1, expect.stringContaining('millrace keys create --tenant')]);

  const first = await up(data);
  expect((await stat(path.join(data, 'redis.url'))).mode & 0o777).toBe(0o600);
  const made = await millrace(['keys', 'create', '--tenant', 'acme', '--name', 'of the test', '--expires', '30d', '--rate', '100', '--data', data]);
  expect([made.code, made.out, made.err]).toEqual([0, expect.stringMatching(/^mrk_\w{12}_\w{36}\n$/), expect.not.stringContaining('mrk_')]);
  const key = { MILLRACE_API_KEY: made.out.trim() };
  expect(await stop(first.child)).toBe(0);
  await expect(stat(path.join(data, 'redis.url'))).rejects.toThrow('ENOENT');

  const shut = await up(data, ['--host', '0.0.0.0']);
  expect(shut.said.out).toContain('requests need one');
  expect(await stop(shut.child)).toBe(0);
  const { url, said } = await up(data, ['--host', '0.0.0.0'], key);
  expect(said.out).toContain('authorization: Bearer $MILLRACE_API_KEY');
  const predict = ['predict', 'iris', irisInputs, '--url', url];
  expect([(await millrace(predict)).code, (await millrace(predict, '', key)).code, (await millrace([...predict, '--key', made.out.trim()])).code]).toEqual([1, 0, 0]);
  expect((await millrace(['models', '--url', url], '', key)).out).toContain('iris@1');

  const [listed] = JSON.parse((await millrace(['keys', 'list', '--json', '--data', data])).out);
  expect(listed).toMatchObject({ tenant: 'acme', name: 'of the test', state: 'active', limits: { predictions_per_minute: 100, body_bytes: null } });
  expect(JSON.stringify(listed)).not.toMatch(/mrk_|digest/);
  expect((await millrace(['keys', 'revoke', listed.id, '--data', data])).code).toBe(0);
  expect((await millrace(['keys', 'list', '--data', data])).out).toMatch(new RegExp(`^${listed.id} +acme +revoked`));
  await until(async () => (await millrace(predict, '', key)).code === 1, 'the key is refused');
  expect(await millrace(['keys', 'revoke', 'nobody', '--data', data])).toMatchObject({ code: 1, err: expect.stringContaining('There is no key nobody') });
});

test('keys without a Redis say what is missing', async () => {
  const data = await temporaryFolder();
  const none = await millrace(['keys', 'list', '--data', data]);
  expect([none.code, none.err]).toEqual([1, expect.stringMatching(/^No Redis to keep keys in: [^\n]+\n$/)]);
  await writeFile(path.join(data, 'redis.url'), 'unix:///nowhere/redis.sock');
  const stale = await millrace(['keys', 'list', '--data', data]);
  expect([stale.code, stale.err]).toEqual([1, expect.stringMatching(/^Redis at unix:\/\/\/nowhere\/redis\.sock cannot be reached: [^\n]*killed[^\n]*\n$/)]);
});

test.each(['--tenant Acme', '--tenant a --scope everything', '--tenant a --expires soon', '--tenant a --rate 0', '--name x'])('keys create refuses %s', async (line) => {
  const { code, out, err } = await millrace(['keys', 'create', '--redis', system.redisUrl, ...line.split(' ')]);
  expect([code, out, err]).toEqual([2, '', expect.stringMatching(/^error: /)]);
});

test('a key has the scopes that it was given', async () => {
  const other = await startTestSystem({ workers: 0 });
  onTestFinished(() => other.stop());
  const { out } = await millrace(['keys', 'create', '--tenant', 'a', '--scope', 'models:read', 'metrics:read', '--json'], '', { REDIS_URL: other.redisUrl });
  expect(JSON.parse(out)).toMatchObject({ key: expect.stringMatching(/^mrk_/), scopes: ['models:read', 'metrics:read'] });
});
