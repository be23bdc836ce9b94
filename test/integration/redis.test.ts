// What API and workers demand of Redis before they start: TLS that can be trusted, a login, rights, and a set-up that loses nothing.
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, onTestFinished, test, vi } from 'vitest';
import { startRedis } from '../../apps/cli/src/embedded/redis.ts';
import { startSystem } from '../../apps/cli/src/embedded/system.ts';
import { type Certificate, createAuthority } from './certificates.ts';
import { login, redisServer, startTestRedis, userArgs } from './redis-rig.ts';
import { bundledModels, freePort, predict, send, startApp, startTestSystem, temporaryFolder, until } from './rig.ts';

const iris = [[5.1, 3.5, 1.4, 0.2]];
const authority = createAuthority('Millrace test authority');
let folder: string;
beforeAll(async () => { folder = await temporaryFolder(afterAll); });

/** Writes a certificate and its key beside each other; their paths. */
async function files(name: string, { cert, key }: Certificate): Promise<{ cert: string; key: string }> {
  const paths = { cert: path.join(folder, `${name}.crt`), key: path.join(folder, `${name}.key`) };
  await writeFile(paths.cert, cert);
  await writeFile(paths.key, key);
  return paths;
}

/** A Redis of this test's own; what is needed to reach it by TLS, which is the only way but for its socket. */
async function startTlsRedis(): Promise<Record<string, string>> {
  const port = await freePort();
  const [ca, server, client] = [await files('ca', authority), await files('server', authority.issue()), await files('client', authority.issue())];
  const redis = await startRedis({
    binary: redisServer(),
    args: ['--appendonly', 'yes', '--tls-port', String(port), '--bind', '127.0.0.1', '--tls-cert-file', server.cert, '--tls-key-file', server.key, '--tls-ca-cert-file', ca.cert, ...userArgs],
  });
  onTestFinished(() => redis.stop());
  return {
    REDIS_URL: `rediss://${login}@localhost:${port}`,
    MILLRACE_REDIS_TLS_CA_FILE: ca.cert, MILLRACE_REDIS_TLS_CERT_FILE: client.cert, MILLRACE_REDIS_TLS_KEY_FILE: client.key,
  };
}

async function startOwnRedis(...args: string[]): Promise<string> {
  const redis = await startRedis({ binary: redisServer(), args: [...userArgs, ...args] });
  onTestFinished(() => redis.stop());
  return redis.url.replace('//', `//${login}@`);
}

/** Starts an app that cannot start; the reason that it logs last. */
async function reasonOf(app: 'api' | 'worker', env: Record<string, string>): Promise<string> {
  const { logs, ended } = startApp(app, { MILLRACE_MODELS: bundledModels, MILLRACE_PORT: '0', MILLRACE_METRICS_PORT: '0', ...env });
  expect(await ended).toEqual([1, null]);
  const { err } = logs.findLast(({ level }) => level === 'fatal') as { err: { message: string } };
  return err.message;
}

/** Sets variables of this process' own environment, as of a shell, until the test has ended. */
function setEnvironment(env: Record<string, string>): void {
  for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value);
  onTestFinished(() => { vi.unstubAllEnvs(); });
}

test('predictions travel over TLS, both sides with a certificate', async () => {
  const { REDIS_URL: redisUrl, ...env } = await startTlsRedis();
  setEnvironment(env);
  const system = await startTestSystem({ redisUrl });
  onTestFinished(() => system.stop());
  expect((await predict(system, 'iris', iris)).body.status).toBe('succeeded');
  expect(JSON.stringify(system.logs)).not.toContain(login.split(':')[1]);
});

test('a private Redis has no TLS, whatever the environment says', async () => {
  setEnvironment({ MILLRACE_REDIS_TLS_CA_FILE: path.join(folder, 'nowhere.crt') });
  const system = await startSystem({ redisServer: redisServer(), models: bundledModels, port: 0, workers: 1, onLog: () => {} });
  onTestFinished(() => system.stop());
  expect((await predict(system, 'iris', iris)).body.status).toBe('succeeded');
});

test('a certificate that the authority did not sign ends the start', async () => {
  const env = await startTlsRedis();
  const stranger = await files('stranger', createAuthority('Somebody else'));
  for (const app of ['api', 'worker'] as const) {
    expect(await reasonOf(app, { ...env, MILLRACE_REDIS_TLS_CA_FILE: stranger.cert })).toMatch(/^Redis cannot be used: .*certificate/);
  }
  expect(await reasonOf('api', { ...env, MILLRACE_REDIS_TLS_CA_FILE: path.join(folder, 'nowhere.crt') })).toMatch(/no such file .*nowhere\.crt/);
});

test.each([
  ['a wrong password', async () => ({ REDIS_URL: (await startOwnRedis()).replace(login, 'millrace:wrong') }), /^Redis cannot be used: WRONGPASS/],
  ['a policy that evicts', async () => ({ REDIS_URL: await startOwnRedis('--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru') }), /maxmemory-policy is allkeys-lru and must be noeviction/],
  ['an authority without TLS', async () => ({ REDIS_URL: await startOwnRedis(), MILLRACE_REDIS_TLS_CA_FILE: 'ca.crt' }), /REDIS_URL asks for no TLS/],
  ['sentinels without a master', async () => ({ REDIS_URL: 'redis+sentinel://localhost' }), /must name the master/],
])('%s ends the start with the reason', async (_name, env, reason) => {
  expect(await reasonOf('api', await env())).toMatch(reason);
});

test('a Redis without an append-only file is used with a warning', async () => {
  const redisUrl = await startOwnRedis();
  const system = await startTestSystem({ redisUrl });
  onTestFinished(() => system.stop());
  const warning = { msg: 'Redis may lose what is accepted', level: 'warn', problem: expect.stringContaining('append-only file is off') };
  for (const service of ['api', 'worker']) expect(system.logs.filter((line) => line['service'] === service)).toContainEqual(expect.objectContaining(warning));
});

test.each([
  ['has lost its replicas and may take nothing without', ['CONFIG', 'SET', 'min-replicas-to-write', '1'], ['CONFIG', 'SET', 'min-replicas-to-write', '0']],
  ['has become a replica without a word', ['REPLICAOF', '127.0.0.1', '1'], ['REPLICAOF', 'NO', 'ONE']],
])('a master that %s: the API says 503, and all go on after', async (_name, [command = '', ...words], [undo = '', ...undoWords]) => {
  const system = await startTestSystem({ privateRedis: true });
  onTestFinished(() => system.stop());
  const admin = new Redis(system.redisAdminUrl as string);
  onTestFinished(() => admin.disconnect());
  await admin.call(command, words);
  expect((await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris })).status).toBe(503);
  await admin.call(undo, undoWords);
  await until(async () => (await predict(system, 'iris', iris)).body.status === 'succeeded', 'a prediction');
});

test('a right that the user lacks is named in the log, and the API says 503', async () => {
  const redis = await startTestRedis({ privately: true });
  onTestFinished(() => redis.stop());
  const admin = new Redis(redis.adminUrl);
  onTestFinished(async () => {
    await admin.acl('LOG', 'RESET');
    admin.disconnect();
  });
  const system = await startTestSystem({ redisUrl: redis.url });
  onTestFinished(() => system.stop());
  await admin.acl('SETUSER', 'millrace', '-hincrby');
  const answer = await send(system, 'POST', '/api/v1/predictions', { model: 'iris', inputs: iris });
  expect([answer.status, answer.body.type]).toEqual([503, '/problems/queue-unavailable']);
  await until(() => JSON.stringify(system.logs).includes('Redis does not let this user do what is needed (deploy/redis/users.acl)'), 'the log line');
});
