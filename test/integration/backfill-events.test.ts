// Who is told of backfills: the webhook that the request names, registered endpoints, event streams; and that whoever is killed,
// every end is told, as one event.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { newSecret } from '@millrace/delivery';
import type { Backfill } from '@millrace/protocol';
import { type Endpoint, EndpointStore } from '@millrace/queue';
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { type BackfillRig, startBackfills, write } from './backfill-rig.ts';
import { Bare } from './event-client.ts';
import { type Received, Receiver, verify } from './receiver.ts';
import { send, until } from './rig.ts';

let rig: BackfillRig;
let receiver: Receiver;
let secret: string;
let endpoints: EndpointStore;

beforeAll(async () => {
  rig = await startBackfills({ env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8', MILLRACE_WEBHOOK_RETRY_SECONDS: '0.2,0.4,0.8' } });
  endpoints = new EndpointStore(rig.redis);
  secret = (await send(rig.system, 'GET', '/api/v1/webhook-secret')).body.secret;
});
afterAll(() => rig.stop());
beforeEach(async () => { receiver = await Receiver.start(); });
afterEach(() => receiver.stop());

const header = Array.from({ length: 64 }, (_, pixel) => `p${pixel}`);
const imagesCsv = (count: number) => `${[header, ...Array.from({ length: count }, (_, row) => header.map((_name, pixel) => (row + pixel) % 17))].map((row) => row.join()).join('\n')}\n`;
const numbersCsv = (numbers: readonly number[]) => `x\n${numbers.join('\n')}\n`;
const at = (name: string) => path.join(rig.folder, name);

/** Makes a backfill whose webhook is the receiver. */
async function make(model: string, input: string, more: object = {}): Promise<Backfill> {
  const { status, body } = await send(rig.system, 'POST', '/api/v1/backfills', { model, input: { uri: at(input) }, output: { uri: at(`${input}.out.csv`) }, webhook: { url: `${receiver.url}/mine` }, ...more });
  expect([status, body.detail]).toEqual([201, undefined]);
  return body;
}

const shown = async (id: string): Promise<Backfill> => (await send(rig.system, 'GET', `/api/v1/backfills/${id}`)).body;
const ask = (id: string, wish: string) => send(rig.system, 'POST', `/api/v1/backfills/${id}/${wish}`);
const stateOf = (id: string) => rig.redis.hget(`millrace:{backfills}:backfill:${id}`, 'state');
const toldOf = (id: string, type: string, where = '/mine') => receiver.of(id).filter(({ path: its, body }) => its === where && body.type === `backfill.${type}`);
const untilTold = (id: string, type: string, count = 1, seconds = 60) => until<Received>(() => toldOf(id, type)[count - 1], `${id} to be told ${type}`, seconds);

/** What events have of the backfill as `GET` shows it. */
function summaryOf({ requested: _1, input: _2, mapping: _3, id_column: _4, carry: _5, max_error_ratio: _6, max_attempts: _7, priority: _8, chunk_rows: _9, ...summary }: Backfill) {
  return summary;
}

/** An endpoint at the receiver, removed by the test's end. */
async function endpointAt(where: string, more: Partial<Endpoint> = {}): Promise<Endpoint> {
  const endpoint = await endpoints.create({ tenant: 'default', url: receiver.url + where, description: '', events: ['backfill.completed'], payload: 'thin', ...more }, newSecret(), { createdAt: Date.now(), most: 50 }) as Endpoint;
  onTestFinished(() => endpoints.remove(endpoint));
  return endpoint;
}

test('the webhook that a request names is told of the end, signed, once every row is in the output', async () => {
  await write(rig, 'few.csv', imagesCsv(300));
  let wholeAtReceipt: boolean | undefined;
  receiver.answer = () => {
    wholeAtReceipt ??= existsSync(at('few.csv.out.csv')) && existsSync(at('few.csv.out.manifest.json'));
    return 204;
  };
  const { id } = await make('digits', 'few.csv');
  const got = await untilTold(id, 'completed');
  verify(secret, got);
  const backfill = await shown(id);
  expect(backfill).toMatchObject({ status: 'completed', rows: { total: 300, done: 300, failed: 0 }, manifest: { uri: at('few.csv.out.manifest.json') } });
  expect(got.body).toEqual({ type: 'backfill.completed', timestamp: backfill.completed_at, data: summaryOf(backfill) });
  expect([wholeAtReceipt, receiver.of(id).map(({ body }) => body.type)]).toEqual([true, ['backfill.completed']]);
  const [delivery, ...others] = await until(async () => {
    const { deliveries } = (await send(rig.system, 'GET', `/api/v1/deliveries?backfill_id=${id}&status=delivered`)).body;
    return deliveries.length > 0 && deliveries;
  }, 'the delivery');
  expect([delivery, others]).toEqual([expect.objectContaining({ event: 'backfill.completed', event_id: got.id, backfill_id: id, prediction_id: null, endpoint_id: null }), []]);
});

test('progress comes where it is asked for, a tenth of the rows at a time, before the end', async () => {
  await write(rig, 'long.csv', imagesCsv(6000));
  const { id } = await make('digits-deep', 'long.csv', { chunk_rows: 300, webhook: { url: `${receiver.url}/mine`, events: ['backfill.progress', 'backfill.completed'] } });
  await untilTold(id, 'completed', 1, 120);
  const progress = toldOf(id, 'progress');
  for (const received of progress) verify(secret, received);
  const tenths = progress.map(({ body: { data: { status, rows: { total, done, failed } } } }) => [status, total, Math.floor(10 * (done + failed) / total)]);
  expect(progress.map(({ id: eventId }) => eventId)).toEqual(tenths.map(([, , tenth]) => `evt_${id}_progress_0_${10 * tenth}`));
  expect(new Set(progress.map(({ id: eventId }) => eventId)).size).toBe(progress.length);
  expect(progress.length).toBeGreaterThan(0);
  expect(tenths.every(([status, total, tenth]) => status === 'running' && total === 6000 && tenth >= 1 && tenth <= 9)).toBe(true);
  const [end] = toldOf(id, 'completed');
  expect(progress.every(({ body: { timestamp } }) => timestamp <= end?.body.timestamp)).toBe(true);
}, 150_000);

test('a backfill that fails and fails again is told of twice, with its error; one that is canceled, as that', async () => {
  await write(rig, 'wrong.csv', numbersCsv(Array.from({ length: 400 }, (_, row) => (row % 4 === 1 ? -1 : 1))));
  const { id } = await make('fails-on-negative', 'wrong.csv', { max_error_ratio: 0.1, chunk_rows: 64 });
  const first = await untilTold(id, 'failed');
  expect(first.body.data).toMatchObject({ status: 'failed', error: { type: '/problems/too-many-errors' }, errors: null, manifest: null });
  expect((await ask(id, 'resume')).status).toBe(202);
  const second = await untilTold(id, 'failed', 2);
  expect(second.id).not.toBe(first.id);
  expect((await ask(id, 'cancel')).status).toBe(202);
  const canceled = await untilTold(id, 'canceled');
  expect(canceled.body.data).toEqual(summaryOf(await shown(id)));
  for (const received of receiver.received) verify(secret, received);
});

test('each time that failed rows have been run again, the end is another event', async () => {
  await write(rig, 'again.csv', numbersCsv([1, 2, -3, 4]));
  const { id } = await make('fails-on-negative', 'again.csv');
  const first = await untilTold(id, 'completed');
  expect(first.body.data).toMatchObject({ rounds: 0, rows: { done: 3, failed: 1 }, errors: { uri: at('again.csv.out.errors.ndjson') } });
  expect((await ask(id, 'retry')).status).toBe(202);
  const second = await untilTold(id, 'completed', 2);
  expect([second.body.data.rounds, second.id === first.id]).toEqual([1, false]);
});

test('registered endpoints are told what they ask for, each tenant of its own', async () => {
  const full = await endpointAt('/full', { payload: 'full', events: ['backfill.completed', 'prediction.completed'] });
  await endpointAt('/others-events', { events: ['prediction.completed', 'backfill.failed'] });
  await endpointAt('/other-tenant', { tenant: 'other' });
  await write(rig, 'heard.csv', imagesCsv(50));
  const { id } = await make('digits', 'heard.csv', { webhook: undefined, mapping: { image: header } });
  const got = await until(() => toldOf(id, 'completed', '/full')[0], 'the endpoint');
  verify(full.secrets.current, got);
  expect(got.body.data).toEqual(await shown(id));
  // Who was to be told of it has been by the time that the next one's end is told.
  const { id: later } = await make('digits', 'heard.csv', { webhook: undefined, output: { uri: at('heard-later.csv') } });
  await until(() => toldOf(later, 'completed', '/full')[0], 'the next one');
  expect(new Set(receiver.received.map(({ path: where }) => where))).toEqual(new Set(['/full']));
});

test('event streams tell of ends, narrowed as they are asked to, and go on after the last one', async () => {
  const follow = (query = '', after?: string) => Bare.open(`${rig.system.url}/api/v1/events${query}`, after === undefined ? {} : { 'last-event-id': after });
  const [all, completed, others] = [await follow(), await follow('?status=completed&model=digits@1'), await follow('?status=succeeded')];
  await write(rig, 'streamed.csv', imagesCsv(50));
  const { id } = await make('digits', 'streamed.csv');
  await until(() => all.seen.length > 0 && completed.seen.length > 0, 'the event');
  const { id: place, type, data } = all.seen[0] as Bare['seen'][number];
  expect([type, data]).toEqual(['backfill.completed', { type, timestamp: data.data.completed_at, data: summaryOf(await shown(id)) }]);
  expect(completed.seen.map(({ data: told }) => told.data.id)).toEqual([id]);
  const { id: next } = await make('digits', 'streamed.csv', { output: { uri: at('streamed-again.csv') } });
  const resumed = await follow('', place);
  await until(() => resumed.seen.length > 0 && all.seen.length > 1, 'the next event');
  expect(resumed.seen.map(({ type: its, data: told }) => [its, told.data.id])).toEqual([['backfill.completed', next]]);
  expect([all.seen.length, others.seen]).toEqual([2, []]);
});

test('a coordinator that is killed around the end tells of it, as one event', async () => {
  await write(rig, 'killed.csv', imagesCsv(3000));
  const cases = [
    ['while it puts the output together', 'finalizing'],
    ['as soon as the end is written', 'completed'],
  ] as const;
  for (const [place, [, state]] of cases.entries()) {
    const { id } = await make('digits', 'killed.csv', { output: { uri: at(`killed-${place}.csv`) } });
    await until(async () => { const now = await stateOf(id); return (now === state || now === 'completed') && now; }, `${id} to be ${state}`, 60);
    process.kill(rig.system.dispatcher?.pid as number, 'SIGKILL');
    await untilTold(id, 'completed', 1, 90);
    // What the dead one had begun to tell is told again after 15 s.
    await until(async () => await rig.redis.xlen('millrace:{backfills}:results') === 0, 'everything to be told', 60);
    expect(new Set(toldOf(id, 'completed').map(({ id: eventId }) => eventId)).size).toBe(1);
    for (const received of toldOf(id, 'completed')) verify(secret, received);
    const { deliveries } = (await send(rig.system, 'GET', `/api/v1/deliveries?backfill_id=${id}`)).body;
    expect(deliveries).toEqual([expect.objectContaining({ event: 'backfill.completed', event_id: toldOf(id, 'completed')[0]?.id })]);
  }
}, 240_000);

test('a receiver that fails is tried again, with the same id', async () => {
  await write(rig, 'slow.csv', imagesCsv(50));
  receiver.answer = (_received, count) => (count <= 2 ? 500 : 204);
  const { id } = await make('digits', 'slow.csv');
  await untilTold(id, 'completed', 3);
  expect(new Set(toldOf(id, 'completed').map(({ id: eventId }) => eventId)).size).toBe(1);
});
