// `millrace webhooks`: the receiver on this machine, and deliveries from the command line.
import { newSecret } from '@millrace/delivery';
import type { Delivery } from '@millrace/protocol';
import { connect, DeliveryStore, type NewDelivery } from '@millrace/queue';
import { Webhook } from 'standardwebhooks';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { launch, millrace, stop } from './cli-rig.ts';
import { predict, send, startTestSystem, temporaryFolder, type TestSystem, until } from './rig.ts';

let system: TestSystem;
beforeAll(async () => {
  system = await startTestSystem({ env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8', MILLRACE_WEBHOOK_RETRY_SECONDS: '0.1,0.2,0.4' } });
});
afterAll(() => system.stop());

interface Listening {
  readonly url: string;
  /** The lines that it has printed, once there are so many. */
  readonly lines: (count: number) => Promise<string[]>;
  readonly end: () => Promise<number | null>;
}

async function listen(args: readonly string[], api = system.url): Promise<Listening> {
  const { child, said } = launch(['webhooks', 'listen', '--port', '0', '--url', api, ...args]);
  const url = await until(() => {
    if (child.exitCode !== null) throw new Error(`it ended: ${said.err}`);
    return /Listening at (http:\S+\/)/.exec(said.err)?.[1];
  }, 'millrace webhooks listen');
  const lines = (count: number) => until(() => {
    const printed = said.out.split('\n').slice(0, -1);
    return printed.length >= count && printed;
  }, `${count} lines`);
  return { url, lines, end: () => stop(child) };
}

const event = { type: 'prediction.completed', timestamp: '2026-11-23T05:06:33.003Z', data: { id: 'default-01a206cc7799707bab1185651b0ef6b6-0', status: 'succeeded' } };

interface Forged {
  readonly signedWith?: string;
  readonly at?: Date;
  readonly sent?: string;
  readonly headers?: Record<string, string>;
}

/** Posts an event that is signed by the public library. */
async function post(url: string, secret: string, { signedWith = secret, at = new Date(), sent = JSON.stringify(event), headers = {} }: Forged = {}): Promise<{ status: number; text: string }> {
  const signature = new Webhook(signedWith).sign('evt_1', at, JSON.stringify(event));
  const response = await fetch(url, {
    method: 'POST', body: sent,
    headers: { 'content-type': 'application/json', 'webhook-id': 'evt_1', 'webhook-timestamp': String(Math.floor(at.getTime() / 1000)), 'webhook-signature': signature, ...headers },
  });
  return { status: response.status, text: await response.text() };
}

test('listen takes what is signed with its secret, and says of everything else why it does not', async () => {
  const secret = newSecret();
  const { url, lines, end } = await listen(['--secret', secret], 'http://127.0.0.1:9');
  const old = newSecret();
  const both = `${new Webhook(old).sign('evt_1', new Date(), JSON.stringify(event))} ${new Webhook(secret).sign('evt_1', new Date(), JSON.stringify(event))}`;
  expect(await post(url, secret)).toEqual({ status: 204, text: '' });
  expect((await post(url, secret, { headers: { 'webhook-signature': both } })).status).toBe(204);
  let count = 2;
  for (const [forged, says] of [
    [{ signedWith: old }, 'No matching signature found'],
    [{ sent: JSON.stringify({ ...event, type: 'prediction.failed' }) }, 'No matching signature found'],
    [{ at: new Date(Date.now() - 600_000) }, 'Message timestamp too old'],
    [{ at: new Date(Date.now() + 600_000) }, 'Message timestamp too new'],
    [{ headers: { 'webhook-signature': '' } }, 'Missing required headers'],
    [{ headers: { 'webhook-timestamp': 'now' } }, 'Invalid Signature Headers'],
    [{ sent: 'x'.repeat(300_000) }, 'its body is longer than 262144 bytes'],
  ] as const) {
    expect([says, await post(url, secret, forged)]).toEqual([says, { status: 400, text: `${says}\n` }]);
    expect((await lines(++count)).at(-1)).toMatch(new RegExp(`^\\S+Z  evt_1  -  NOT VERIFIED: ${says}  attempt of (no time|\\S+Z)  answered 400$`));
  }
  expect((await fetch(url)).status).toBe(400);
  await post(url, old, { headers: { 'webhook-id': 'evt_\u009b31m' } });
  const printed = await lines(11);
  expect(printed.at(-1)).toContain('evt_?31m');
  expect(printed[0]).toMatch(/^\S+Z {2}prediction\.completed {2}default-01a206cc7799707bab1185651b0ef6b6-0 {2}verified {2}attempt of \S+Z {2}answered 204$/);
  expect(await end()).toBe(0);
  await expect(fetch(url)).rejects.toThrow('fetch failed');
});

test('listen fails as often as it is asked to, and prints JSON', async () => {
  const secret = newSecret();
  const { url, lines } = await listen(['--secret', secret, '--fail', '2', '--json']);
  expect((await post(url, newSecret())).status).toBe(400);
  expect([await post(url, secret), await post(url, secret), await post(url, secret)].map(({ status }) => status)).toEqual([500, 500, 204]);
  expect((await lines(4)).map((line) => JSON.parse(line))).toEqual([
    expect.objectContaining({ verified: false, fault: 'No matching signature found', status: 400, event: null, prediction_id: null, payload: null }),
    expect.objectContaining({ verified: true, status: 500 }),
    expect.objectContaining({ verified: true, status: 500 }),
    { received_at: expect.any(String), event: event.type, event_id: 'evt_1', prediction_id: event.data.id, backfill_id: null, verified: true, fault: null, attempted_at: expect.any(String), status: 204, payload: event },
  ]);
});

test('listen verifies what a prediction asks for with the secret of the tenant, and takes it when it comes again', async () => {
  const { url, lines, end } = await listen(['--fail', '1']);
  const { body: { id } } = await predict(system, 'iris', [[5.1, 3.5, 1.4, 0.2]], { webhook: { url } });
  expect(await lines(2)).toEqual([500, 204].map((status) => expect.stringMatching(`^\\S+Z  prediction\\.completed  ${id}  verified  attempt of \\S+Z  answered ${status}$`)));
  expect(await end()).toBe(0);
});

test('listen registers itself for all predictions, and leaves nothing behind', async () => {
  const { url, lines, end } = await listen(['--register', '--json']);
  const endpoints = async () => (await send(system, 'GET', '/api/v1/webhook-endpoints')).body.webhook_endpoints;
  expect(await endpoints()).toEqual([expect.objectContaining({ url, enabled: true })]);
  const { body: { id } } = await predict(system, 'iris', [[5.1, 3.5, 1.4, 0.2]]);
  const [line = ''] = await lines(1);
  expect(JSON.parse(line)).toMatchObject({ verified: true, event: 'prediction.completed', prediction_id: id });
  expect(await end()).toBe(0);
  expect(await endpoints()).toEqual([]);
});

test('listen on a port that is taken, or without an API to ask, says so and ends', async () => {
  const { url } = await listen([]);
  const taken = await millrace(['webhooks', 'listen', '--port', new URL(url).port, '--url', system.url]);
  expect([taken.code, taken.out, taken.err]).toEqual([1, '', expect.stringContaining('EADDRINUSE')]);
  const alone = await millrace(['webhooks', 'listen', '--port', '0', '--url', 'http://127.0.0.1:9']);
  expect([alone.code, alone.out, alone.err]).toEqual([3, '', expect.stringContaining('cannot be reached')]);
});

/** Puts dead deliveries to a reply queue that nobody reads; their ids. */
async function addDead(count: number, at: number): Promise<string[]> {
  const redis = connect(system, 'worker', (error) => { throw error; });
  onTestFinished(() => redis.disconnect());
  const wanted = Array.from({ length: count }, (_, index): NewDelivery => ({
    tenant: 'default', event: 'prediction.completed', eventId: `evt_${at}-${index}_completed`, at: at + index, target: { kind: 'reply-queue', queue: 'unread' },
    body: JSON.stringify({ version: 1, id: `evt_${at}-${index}_completed`, type: 'prediction.completed' }), reason: 'All attempts have failed',
  }));
  return (await new DeliveryStore(redis, 86_400).add(wanted)).map(({ id }) => id);
}

test('deliveries are listed, and dead ones sent again: one, those of a time, all', async () => {
  const ids = [...await addDead(3, Date.now() - 7_200_000), ...await addDead(4, Date.now() - 60_000)];
  const run = (...args: string[]) => millrace(['webhooks', ...args, '--url', system.url]);
  const dead = async () => (JSON.parse((await run('deliveries', '--status', 'dead', '--json')).out) as Delivery[]).map(({ id }) => id);
  expect((await dead()).toSorted()).toEqual(ids.toSorted());
  const { code, out } = await run('deliveries', '--status', 'dead', '--limit', '2');
  expect([code, out.split('\n').slice(0, -1)]).toEqual([0, [ids[6], ids[5]].map((id) => expect.stringMatching(`^\\S+Z  ${id}  dead +prediction\\.completed  -  queue unread  0 attempts$`))]);
  expect(await run('deliveries', '--endpoint', 'ep_nobody')).toMatchObject({ code: 0, out: '', err: 'There is no such delivery.\n' });

  expect(await run('redeliver', ids[0] as string)).toMatchObject({ code: 0, out: '', err: `${ids[0]} (prediction.completed) is on its way again.\n` });
  expect(await run('redeliver', 'dlv_nobody')).toMatchObject({ code: 1, out: '', err: expect.stringContaining('There is no such delivery') });
  expect((await run('redeliver', '--dead', '--since', '1h')).err).toBe('4 dead deliveries are on their way again.\n');
  expect((await run('redeliver', '--dead', '--endpoint', 'ep_nobody')).err).toBe('0 dead deliveries are on their way again.\n');
  expect((await run('redeliver', '--dead', '--since', '2026-01-01T00:00:00Z')).err).toBe('2 dead deliveries are on their way again.\n');
  expect(await dead()).toEqual([]);
});

test.each(['webhooks', 'webhooks listen --secret nonsense', 'webhooks listen --fail often', 'webhooks deliveries --status lost', 'webhooks redeliver', 'webhooks redeliver dlv_1 --dead', 'webhooks redeliver dlv_1 --since 1h', 'webhooks redeliver --dead --since yesterday'])('wrong usage exits with 2: %s', async (line) => {
  const { code, out } = await millrace(line.split(' '));
  expect([code, out]).toEqual([2, '']);
});

test.each([['by default, to this machine', {}, 201], ['as the setting says', { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '' }, 422]])('up lets webhooks go %s', async (_name, more, status) => {
  const { child, said } = launch(['up', '--port', '0', '--workers', '0', '--data', await temporaryFolder()], 'ignore', more);
  const url = await until(() => said.out.includes('Ctrl-C') && /http:\/\/[\d.]+:\d+/.exec(said.out)?.[0], 'millrace up');
  expect((await send({ ...system, url }, 'POST', '/api/v1/webhook-endpoints', { url: 'http://127.0.0.1:9/' })).status).toBe(status);
  expect(await stop(child)).toBe(0);
});
