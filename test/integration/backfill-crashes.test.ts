// Whatever is killed under a backfill: every row has one outcome, in order.
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import type { Service } from '@millrace/process';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ChaosRedis } from '../chaos/redis.ts';
import { backfill, type BackfillRig, bulkRows, ends, find, read, startBackfills, write } from './backfill-rig.ts';
import { redisServer } from './redis-rig.ts';
import { freeze, startApp, startWorker, until, within } from './rig.ts';

let rig: BackfillRig;
let redis: ChaosRedis;
beforeAll(async () => {
  redis = await ChaosRedis.start(redisServer());
  rig = await startBackfills({ redisUrl: redis.url, workers: 2 });
});
afterAll(async () => {
  await rig.stop();
  await redis.stop();
});

const header = Array.from({ length: 64 }, (_, pixel) => `p${pixel}`);
/** Images of 64 pixels as CSV: the first pixel says which row it is. */
function imagesCsv(count: number): string {
  const rows = Array.from({ length: count }, (_, row) => [row, ...Array.from({ length: 63 }, (_pixel, pixel) => (row + pixel) % 17)].join());
  return `${header.join()}\n${rows.join('\n')}\n`;
}

async function query(sql: string): Promise<Record<string, unknown>[]> {
  const connection = await (await DuckDBInstance.create()).connect();
  const rows = (await connection.runAndReadAll(sql)).getRowObjectsJson();
  connection.closeSync();
  return rows;
}

/** Once it is up: it may have been killed a moment ago. */
async function kill(service: Service | undefined): Promise<void> {
  await until(() => service?.state === 'ready', 'it is up');
  process.kill(service?.pid as number, 'SIGKILL');
}

test('workers, coordinator and Redis are killed in the middle: no row is lost, doubled or out of order', async () => {
  const count = 100_000;
  await write(rig, 'many.csv', imagesCsv(count));
  const id = await backfill(rig, 'digits', { input: 'many.csv', output: 'many-out.csv', mapping: { image: header }, carry: ['p0'] }, { chunkRows: 1000 });
  const killed = new Set<string>();
  const kills = [
    ['worker 1', () => kill(rig.system.workers[0])],
    ['coordinator', () => kill(rig.system.dispatcher)],
    ['Redis', async () => { await redis.kill(); await redis.revive(); }],
    ['worker 2', () => kill(rig.system.workers[1])],
    ['coordinator again', () => kill(rig.system.dispatcher)],
  ] as const;
  for (const [step, [what, strike]] of kills.entries()) {
    await until(async () => {
      const { progress: { state, rows: { done } } } = await find(rig, id);
      return done > (step + 1) * 10_000 || state === 'completed';
    }, `rows before ${what} is killed`, 90);
    if ((await find(rig, id)).progress.state !== 'completed') killed.add(what);
    await strike();
  }
  expect((await ends(rig, id, 120)).progress).toMatchObject({ state: 'completed', rows: { total: count, done: count, failed: 0 } });
  expect(killed.size).toBeGreaterThan(2);
  const [found] = await query(`SELECT count(*) AS rows, count(DISTINCT row) AS different, min(row) AS first, max(row) AS last, count(*) FILTER (row != p0 + 1) AS strange FROM read_csv('${path.join(rig.folder, 'many-out.csv')}')`);
  expect(found).toEqual({ rows: String(count), different: String(count), first: '1', last: String(count), strange: '0' });
  const [order] = await query(`SELECT count(*) AS wrong FROM (SELECT row, row_number() OVER () AS place FROM read_csv('${path.join(rig.folder, 'many-out.csv')}', parallel = false)) WHERE row != place`);
  expect(order).toEqual({ wrong: '0' });
  await until(async () => await bulkRows(rig) === 0, 'the depth to be exact at rest');
}, 240_000);

test('a row that kills the worker that runs it becomes an error row, and its chunk is done', async () => {
  const values = Array.from({ length: 300 }, (_, row) => (row === 177 ? 13 : 20 + row));
  await write(rig, 'deadly.csv', `x\n${values.join('\n')}\n`);
  const id = await backfill(rig, 'crashes-on-thirteen', { input: 'deadly.csv', output: 'halves.csv' });
  expect((await ends(rig, id, 180)).progress).toMatchObject({ state: 'completed', rows: { total: 300, done: 299, failed: 1 } });
  const errors = (await read(rig, 'halves.errors.ndjson')).trim().split('\n').map((line) => JSON.parse(line) as object);
  expect(errors).toMatchObject([{ row: 178, code: 'worker-crashed', original: '13' }]);
  const found = await query(`FROM read_csv('${path.join(rig.folder, 'halves.csv')}')`);
  expect(found.map(({ row, y }) => [Number(row), Number(y)])).toEqual(values.flatMap((value, row) => (value === 13 ? [] : [[row + 1, Math.trunc(value / 2)]])));
}, 240_000);

test('a worker that is told to stop hands its chunks back at once', async () => {
  const count = 3000;
  await write(rig, 'handed.csv', imagesCsv(count));
  const worker = await startWorker(rig.system, { ...rig.env });
  const id = await backfill(rig, 'digits-deep', { input: 'handed.csv', output: 'handed-out.csv' }, { chunkRows: 100 });
  await until(async () => Number(/millrace_worker_claimed_rows\{[^}]*\} (\d+)/.exec(await (await fetch(`${worker.url}/metrics`)).text())?.[1]) > 0, 'a claim');
  worker.child.kill('SIGTERM');
  expect(await within(60, worker.ended, 'its end')).toEqual([0, null]);
  expect(worker.logs.filter(({ level }) => level !== 'info')).toEqual([]);
  expect((await ends(rig, id, 120)).progress).toMatchObject({ state: 'completed', rows: { total: count, done: count } });
}, 180_000);

test('a coordinator that hangs is replaced, and does no harm when it goes on', async () => {
  const count = 6000;
  await write(rig, 'hung.csv', imagesCsv(count));
  const id = await backfill(rig, 'digits-deep', { input: 'hung.csv', output: 'hung-out.csv' }, { chunkRows: 100 });
  await until(async () => (await find(rig, id)).progress.rows.done > 0, 'some rows');
  const { logs } = startApp('dispatcher', { REDIS_URL: redis.url, MILLRACE_METRICS_PORT: '0', ...rig.env });
  const thaw = freeze(rig.system.dispatcher?.pid);
  expect((await ends(rig, id, 120)).progress).toMatchObject({ state: 'completed', rows: { total: count, done: count, failed: 0 } });
  await until(() => logs.find(({ msg }) => msg === 'backfill completed'), 'the second coordinator to say so');
  thaw();
  await until(() => rig.system.logs.find(({ msg }) => msg === 'lease lost, another coordinator has the backfill'), 'the first coordinator to notice');
  expect((await find(rig, id)).progress.state).toBe('completed');
  const [found] = await query(`SELECT count(*) AS rows, count(DISTINCT row) AS different FROM read_csv('${path.join(rig.folder, 'hung-out.csv')}')`);
  expect(found).toEqual({ rows: String(count), different: String(count) });
}, 240_000);
