// A backfill and the fleet that it asks for: the queue holds a window of it, and the autoscaler hears of all of it.
import { readDemand } from '@millrace/queue';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { backfill, type BackfillRig, ends, find, read, startBackfills, write } from './backfill-rig.ts';
import { send, until } from './rig.ts';

let rig: BackfillRig;
beforeAll(async () => {
  rig = await startBackfills({
    workers: { least: 0, most: 3 },
    env: {
      MILLRACE_POLL_SECONDS: '0.5', MILLRACE_START_SECONDS: '1', MILLRACE_SCALE_IN_DELAY_SECONDS: '2', MILLRACE_IDLE_SECONDS: '2',
      MILLRACE_BULK_DRAIN_SECONDS: '5', MILLRACE_POOLS: 'default=0..3',
    },
  });
});
afterAll(() => rig.stop());

const header = Array.from({ length: 64 }, (_, pixel) => `p${pixel}`);
const csv = (count: number) => `${header.join()}\n${Array.from({ length: count }, (_, row) => header.map((_pixel, pixel) => (row + pixel) % 17).join()).join('\n')}\n`;
const desired = () => rig.system.logs.filter(({ msg }) => msg === 'fleet is scaled').map((line) => line['desired'] as number);

test('rows that are still to be queued count: an empty pool grows to its most, and is empty again', async () => {
  const count = 20_000;
  await write(rig, 'long.csv', csv(count));
  // About 15 s of one thread, of which the window holds less than 2.
  const id = await backfill(rig, 'digits-deep', { input: 'long.csv', output: 'long-out.csv' }, { chunkRows: 100 });
  await until(() => desired().includes(3), 'three workers are wanted');
  // The API reads it twice a second.
  await until(async () => {
    const { body } = await send(rig.system, 'GET', '/api/v1/autoscale/default');
    return body.rows_to_come > body.rows && body.lanes.bulk.backlog_seconds > 1;
  }, 'more to come than is queued');
  expect(await (await fetch(`${rig.system.url}/metrics`)).text()).toMatch(/millrace_queue_rows\{[^}]*model="digits-deep"[^}]*state="to_come"[^}]*\} [1-9]/);
  expect((await ends(rig, id, 120)).progress).toMatchObject({ state: 'completed', rows: { total: count, done: count, failed: 0 } });
  expect((await readDemand(rig.redis, 'default')).toCome).toEqual({ rows: 0, models: new Map(), ageSeconds: 0 });
  await until(() => desired().at(-1) === 0, 'no worker is wanted');
});

test('chunks are as long as their rows take: small ones of a model that never ran here, and more in them when it is known', async () => {
  const count = 12_000;
  await write(rig, 'sized.csv', csv(count));
  const chunksOf = async (model: string, output: string) => {
    const id = await backfill(rig, model, { input: 'sized.csv', output });
    expect((await ends(rig, id, 120)).progress).toMatchObject({ state: 'completed', rows: { done: count } });
    return JSON.parse(await read(rig, output.replace('.csv', '.manifest.json'))).chunks as number;
  };
  // The heavy one was measured above: 4 s of one thread are some thousands of its rows.
  expect(await chunksOf('digits-deep', 'heavy.csv')).toBeGreaterThan(1);
  const unknown = await chunksOf('digits', 'unknown.csv');
  expect([unknown > 4, unknown < count / 256]).toEqual([true, true]);
  expect(await chunksOf('digits', 'known.csv')).toBeLessThan(unknown);
});

test('a backfill that is paused asks for nobody', async () => {
  await write(rig, 'paused.csv', csv(20_000));
  const id = await backfill(rig, 'digits-deep', { input: 'paused.csv', output: 'paused-out.csv' }, { chunkRows: 100 });
  await until(async () => (await readDemand(rig.redis, 'default')).toCome.models.has('digits-deep@1'), 'what is to come');
  await rig.store.wish(id, 'default', 'pause');
  await until(async () => (await find(rig, id)).progress.state === 'paused', 'the pause');
  expect((await readDemand(rig.redis, 'default')).toCome.models.size).toBe(0);
  await rig.store.wish(id, 'default', 'cancel');
  expect((await ends(rig, id)).progress.state).toBe('canceled');
});
