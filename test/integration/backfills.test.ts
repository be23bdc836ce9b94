// Backfills end to end: a file in, a file out, by the processes that run in production.
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { DuckDBInstance } from '@duckdb/node-api';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { backfill, type BackfillRig, bulkRows, comesTo, ends, find, pin, read, startBackfills, write } from './backfill-rig.ts';
import { difference, runDirect } from './direct.ts';
import { predict, startWorker, until } from './rig.ts';

let rig: BackfillRig;
beforeAll(async () => { rig = await startBackfills(); });
afterAll(() => rig.stop());

type Row = Readonly<Record<string, unknown>>;

/** Measurements of flowers, about as they come. */
const flowers = (count: number) => Array.from({ length: count }, (_, row) => [4 + row % 40 / 10, 2 + row % 25 / 10, 1 + row % 60 / 10, 0.1 + row % 24 / 10]);
/** Images of 64 pixels, none like another. */
const images = (count: number) => Array.from({ length: count }, (_, row) => Array.from({ length: 64 }, (_pixel, pixel) => (row * 7 + pixel * (1 + row % 13)) % 17));

const lines = (text: string): Row[] => text.split('\n').filter(Boolean).map((line) => JSON.parse(line) as Row);
const csv = (header: readonly string[], rows: readonly (readonly unknown[])[]) => `${header.join()}\n${rows.map((row) => row.join()).join('\n')}\n`;
const columns = Array.from({ length: 64 }, (_, pixel) => `p${pixel}`);

/** What DuckDB, by itself, reads in a file. */
async function query(sql: string): Promise<Row[]> {
  const connection = await (await DuckDBInstance.create()).connect();
  const rows = (await connection.runAndReadAll(sql)).getRowObjectsJson();
  connection.closeSync();
  return rows;
}

async function direct(model: string, inputs: Readonly<Record<string, unknown>>): Promise<Record<string, unknown[]>> {
  const { signature } = await pin(rig, model);
  return await runDirect(rig.system.models, model, signature, inputs) as Record<string, unknown[]>;
}

test('a CSV becomes a CSV with the outputs of session.run, in order, with ids and carried columns', async () => {
  const rows = flowers(2500);
  await write(rig, 'flowers.csv', csv(['id', 'a', 'b', 'c', 'd', 'note'], rows.map((row, index) => [`f${index}`, ...row, `"n, ${index}"`])));
  const id = await backfill(rig, 'iris', { input: 'flowers.csv', output: 'kinds.csv', mapping: { features: ['a', 'b', 'c', 'd'] }, id_column: 'id', carry: ['note'] }, { chunkRows: 400 });
  const { progress } = await ends(rig, id);
  expect(progress).toMatchObject({ state: 'completed', rows: { total: 2500, done: 2500, failed: 0 } });
  const expected = await direct('iris', { features: rows });
  const found = await query(`FROM read_csv('${path.join(rig.folder, 'kinds.csv')}')`);
  expect(found.map((row) => [row['id'], row['note'], row['label'], row['label_name']]))
    .toEqual(rows.map((_, index) => [`f${index}`, `n, ${index}`, String(expected['label']?.[index]), ['setosa', 'versicolor', 'virginica'][Number(expected['label']?.[index])]]));
  expect(difference(found.map((row) => [0, 1, 2].map((kind) => row[`probabilities_${kind}`])), expected['probabilities'])).toBeLessThan(1e-5);
  expect(lines(await read(rig, 'kinds.manifest.json').then((text) => text.replaceAll('\n', '')))).toMatchObject([{ id, rows: { input: 2500, output: 2500, failed: 0 }, errors: null }]);
  expect(await bulkRows(rig)).toBe(0);
  await until(async () => (await readdir(path.join(rig.folder, '../work'))).length === 0, 'the work folder to be empty');
});

test('Parquet becomes Parquet, with vectors as lists', async () => {
  const rows = images(1500);
  await write(rig, 'images.ndjson', rows.map((image, index) => JSON.stringify({ name: `i${index}`, image })).join('\n'));
  await query(`COPY (SELECT name, image::FLOAT[64] AS image FROM read_json('${path.join(rig.folder, 'images.ndjson')}')) TO '${path.join(rig.folder, 'images.parquet')}' (ROW_GROUP_SIZE 2048)`);
  const id = await backfill(rig, 'digits', { input: 'images.parquet', output: 'digits.parquet', id_column: 'name' }, { chunkRows: 256 });
  expect((await ends(rig, id)).progress).toMatchObject({ state: 'completed', rows: { total: 1500, done: 1500, failed: 0 } });
  const expected = await direct('digits', { image: rows });
  const found = await query(`FROM '${path.join(rig.folder, 'digits.parquet')}'`);
  expect(found.map(({ name }) => name)).toEqual(rows.map((_, index) => `i${index}`));
  expect(difference(found.map(({ probabilities }) => probabilities), expected['probabilities'])).toBeLessThan(1e-5);
});

test('several inputs, strings and lists of varying length become NDJSON', async () => {
  await write(rig, 'pairs.ndjson', Array.from({ length: 40 }, (_, row) => JSON.stringify({ custom_id: `c${row}`, body: { inputs: { x: [`a${row}`, `b${row}`] } } })).join('\n'));
  const pairs = await backfill(rig, 'string-concat', { input: 'pairs.ndjson', output: 'joined.ndjson' });
  await write(rig, 'wide.ndjson', Array.from({ length: 40 }, (_, row) => JSON.stringify({ x: Array.from({ length: 1 + row % 3 }, (_value, place) => row + place) })).join('\n'));
  const wide = await backfill(rig, 'dynamic-width', { input: 'wide.ndjson', output: 'means.ndjson' });
  const single = await (async () => {
    await write(rig, 'ones.csv', csv(['a', 'b', 'c', 'd'], Array.from({ length: 30 }, (_, row) => [row, 1, 2, 3])));
    return backfill(rig, 'fixed-one', { input: 'ones.csv', output: 'ones.ndjson' });
  })();
  for (const id of [pairs, wide, single]) expect((await ends(rig, id)).progress).toMatchObject({ state: 'completed', rows: { failed: 0 } });
  const expected = await direct('string-concat', { x: Array.from({ length: 40 }, (_, row) => [`a${row}`, `b${row}`]) });
  expect(lines(await read(rig, 'joined.ndjson')).map(({ y }) => y)).toEqual(expected['y']);
  expect(lines(await read(rig, 'means.ndjson')).map(({ y, mean }) => [(y as number[]).length, mean])).toEqual(Array.from({ length: 40 }, (_, row) => [1 + row % 3, row + row % 3 / 2]));
  expect(lines(await read(rig, 'ones.ndjson')).map(({ y }) => y)).toEqual(Array.from({ length: 30 }, (_, row) => [row + 1, 2, 3, 4]));
});

test('rows that cannot be read or that the model refuses stand in the error file, and all others in the output', async () => {
  const values = Array.from({ length: 1000 }, (_, row) => (row % 97 === 5 ? 'many' : row % 61 === 7 ? -1 : row % 10));
  await write(rig, 'picky.csv', csv(['x'], values.map((value) => [value])));
  const id = await backfill(rig, 'fails-on-negative', { input: 'picky.csv', output: 'squares.csv' }, { chunkRows: 128 });
  const bad = values.flatMap((value, row) => (typeof value === 'string' || value < 0 ? [{ row: row + 1, original: String(value), code: typeof value === 'string' ? 'invalid-row' : 'model-failed' }] : []));
  expect((await ends(rig, id)).progress).toMatchObject({ state: 'completed', rows: { total: 1000, done: 1000 - bad.length, failed: bad.length } });
  const failed = lines(await read(rig, 'squares.errors.ndjson'));
  expect(failed.map(({ row, original, code }) => ({ row, original, code }))).toEqual(bad);
  expect(failed[0]).toMatchObject({ reason: expect.stringContaining('many'), line: 7 });
  const found = await query(`FROM read_csv('${path.join(rig.folder, 'squares.csv')}')`);
  expect(found.map(({ row, y }) => [Number(row), Number(y)])).toEqual(values.flatMap((value, row) => (typeof value === 'number' && value >= 0 ? [[row + 1, value ** 2]] : [])));
});

test('failed rows are run again, and what comes of them replaces what came before', async () => {
  const input = path.join(rig.folder, 'again.csv.gz');
  await writeFile(input, gzipSync(csv(['x'], Array.from({ length: 300 }, (_, row) => [row === 140 ? -1 : row === 150 ? -2 : 3]))));
  const id = await backfill(rig, 'fails-on-negative', { input: 'again.csv.gz', output: 'again-out.csv' }, { chunkRows: 64 });
  expect((await ends(rig, id)).progress).toMatchObject({ state: 'completed', rows: { done: 298, failed: 2 }, files: { errors: expect.stringContaining('again-out.errors.ndjson') } });
  // What is staged is what is run again: one of the rows is mended there, and the input is not needed.
  await rm(input);
  const blocks = path.join(rig.folder, '../work', id, 'blocks');
  const [block, ...others] = await readdir(blocks);
  expect(others).toEqual([]);
  const staged = path.join(blocks, block as string);
  await writeFile(staged, (await readFile(staged, 'utf8')).replace('-1\n', ' 4\n'));
  await rig.store.wish(id, 'default', 'retry');
  await until(async () => (await find(rig, id)).progress.round === 1, 'the round');
  expect((await ends(rig, id)).progress).toMatchObject({ state: 'completed', rows: { total: 300, done: 299, failed: 1 }, round: 1 });
  const found = await query(`FROM read_csv('${path.join(rig.folder, 'again-out.csv')}')`);
  expect(found.map(({ row, y }) => [Number(row), Number(y)])).toEqual(Array.from({ length: 300 }, (_, row) => [row + 1, row === 140 ? 16 : 9]).filter(([row]) => row !== 151));
  expect(lines(await read(rig, 'again-out.errors.ndjson'))).toMatchObject([{ row: 151, original: '-2' }]);
});

test('more failed rows than max_error_ratio end it, with nothing under the final name', async () => {
  await write(rig, 'wrong.csv', csv(['x'], Array.from({ length: 2000 }, (_, row) => [row % 4 === 1 ? -1 : 1])));
  const id = await backfill(rig, 'fails-on-negative', { input: 'wrong.csv', output: 'wrong-out.csv', max_error_ratio: 0.1 }, { chunkRows: 64 });
  const { progress } = await ends(rig, id);
  expect(progress).toMatchObject({ state: 'failed', error: { type: '/problems/too-many-errors' } });
  expect(progress.rows.failed).toBeGreaterThan(200);
  expect((await readdir(rig.folder)).filter((name) => name.includes('wrong-out'))).toEqual([]);
  expect(await bulkRows(rig)).toBe(0);
});

test('what cannot be run fails at once, and says why', async () => {
  const failure = async (...what: Parameters<typeof backfill> extends [unknown, ...infer Rest] ? Rest : never) => {
    const { progress: { state, error } } = await ends(rig, await backfill(rig, ...what));
    return [state, error?.type, error?.detail];
  };
  await write(rig, 'few.csv', csv(['a', 'b'], [[1, 2]]));
  await write(rig, 'nothing.csv', '');
  expect(await failure('iris', { input: 'missing.csv', output: 'x.csv' })).toEqual(['failed', '/problems/invalid-backfill', expect.stringContaining('no such file')]);
  expect(await failure('iris', { input: 'nothing.csv', output: 'x.csv' })).toEqual(['failed', '/problems/unreadable-input', expect.stringContaining('empty')]);
  expect(await failure('iris', { input: 'few.csv', output: 'x.csv' })).toEqual(['failed', '/problems/invalid-backfill', expect.stringContaining('4 columns')]);
  expect(await failure('no-batch', { input: 'few.csv', output: 'x.csv', mapping: { x: ['a'], y: ['b'] } })).toEqual(['failed', '/problems/invalid-backfill', expect.stringContaining('row by row')]);
  expect(await failure('iris', { input: '../../../etc/passwd', output: 'x.csv' })).toEqual(['failed', '/problems/place-not-allowed', expect.anything()]);
  expect(await failure('iris', { input: 'few.csv', output: '../x.csv' })).toEqual(['failed', '/problems/place-not-allowed', expect.anything()]);
});

test('a failed backfill goes on from where it was, once the cause is gone', async () => {
  const folder = path.join(rig.folder, 'later');
  await mkdir(folder);
  await write(rig, 'early.csv', csv(columns, images(3000)));
  const id = await backfill(rig, 'digits-deep', { input: 'early.csv', output: 'later/out.csv' }, { chunkRows: 300 });
  await until(async () => (await find(rig, id)).progress.rows.done > 0, 'some rows');
  await rm(folder, { recursive: true });
  const { progress: failed } = await ends(rig, id);
  expect(failed).toMatchObject({ state: 'failed', phase: 'finalizing', rows: { total: 3000, done: 3000 }, error: { type: '/problems/storage-unavailable', detail: expect.stringContaining('later') } });
  await mkdir(folder);
  await rig.store.wish(id, 'default', 'resume');
  await comesTo(rig, id, ['completed']);
  expect((await query(`SELECT count(*) AS rows FROM read_csv('${path.join(folder, 'out.csv')}')`))[0]).toEqual({ rows: '3000' });
});

test('a paused backfill queues nothing, and goes on where it was', async () => {
  const rows = images(6000);
  await write(rig, 'slow.csv', csv(columns, rows));
  const id = await backfill(rig, 'digits-deep', { input: 'slow.csv', output: 'slow-out.ndjson' }, { chunkRows: 250 });
  await until(async () => (await find(rig, id)).progress.rows.done > 0, 'some rows');
  await rig.store.wish(id, 'default', 'pause');
  const { progress: paused } = await comesTo(rig, id, ['paused']);
  expect([paused.rows.done > 0, paused.rows.done < 6000, await bulkRows(rig)]).toEqual([true, true, 0]);
  await rig.store.wish(id, 'default', 'resume');
  expect((await ends(rig, id)).progress).toMatchObject({ state: 'completed', rows: { total: 6000, done: 6000, failed: 0 } });
  const found = lines(await read(rig, 'slow-out.ndjson'));
  expect(found.map(({ row }) => row)).toEqual(rows.map((_, index) => index + 1));
  const sample = [0, 2999, 5999];
  const expected = await direct('digits-deep', { image: sample.map((row) => rows[row]) });
  expect(difference(sample.map((row) => found[row]?.['probabilities']), expected['probabilities'])).toBeLessThan(1e-5);
});

test('a backfill whose work folder cannot be read fails, and can be canceled', async () => {
  await write(rig, 'unread.csv', csv(columns, images(6000)));
  const id = await backfill(rig, 'digits-deep', { input: 'unread.csv', output: 'unread-out.csv' }, { chunkRows: 250 });
  await until(async () => (await find(rig, id)).progress.rows.done > 0, 'some rows');
  await rig.store.wish(id, 'default', 'pause');
  const { progress: { rows: { done } } } = await comesTo(rig, id, ['paused']);
  const parts = path.join(rig.folder, '../work', id, 'parts');
  await rm(parts, { recursive: true });
  await writeFile(parts, 'no folder');
  await rig.store.wish(id, 'default', 'resume');
  expect((await comesTo(rig, id, ['failed'])).progress).toMatchObject({ rows: { done }, error: { type: '/problems/storage-unavailable' } });
  await rig.store.wish(id, 'default', 'cancel');
  expect((await comesTo(rig, id, ['canceled'])).progress.rows.done).toBe(done);
});

test('a canceled backfill leaves nothing behind', async () => {
  await write(rig, 'canceled.csv', csv(columns, images(6000)));
  const id = await backfill(rig, 'digits-deep', { input: 'canceled.csv', output: 'canceled-out.csv' }, { chunkRows: 250 });
  await until(async () => (await find(rig, id)).progress.rows.done > 0, 'some rows');
  await rig.store.wish(id, 'default', 'cancel');
  expect((await ends(rig, id)).progress.state).toBe('canceled');
  await until(async () => !(await readdir(path.join(rig.folder, '../work'))).includes(id), 'the work folder to be empty');
  expect([await bulkRows(rig), (await readdir(rig.folder)).filter((name) => name.includes('canceled-out'))]).toEqual([0, []]);
  expect(await rig.redis.exists(`millrace:{default}:chunks:${id}`)).toBe(0);
});

test('predictions run before the rows of a backfill, also of the same model', async () => {
  await write(rig, 'long.csv', csv(columns, images(8000)));
  const id = await backfill(rig, 'digits-deep', { input: 'long.csv', output: 'long-out.csv' }, { chunkRows: 4000 });
  await until(async () => await bulkRows(rig) === 8000, 'its chunks');
  // One after another, each waits for one bulk micro-batch of at most 32 rows and not for a chunk of 4000.
  for (const [index, image] of images(20).entries()) {
    const { body } = await predict(rig.system, index % 2 === 0 ? 'digits-deep' : 'digits', [image]);
    expect(body.status).toBe('succeeded');
  }
  expect(await bulkRows(rig)).toBeGreaterThan(0);
  expect((await ends(rig, id)).progress.state).toBe('completed');
});

test('two workers share a backfill', async () => {
  const chunksOf = async (url: string) => Number(/millrace_chunks_total\{model="digits-deep",outcome="succeeded"[^}]*\} (\d+)/.exec(await (await fetch(`${url}/metrics`)).text())?.[1] ?? 0);
  const urls = [rig.system.workerUrls[0] as string, (await startWorker(rig.system, { ...rig.env })).url];
  const before = await Promise.all(urls.map(chunksOf));
  await write(rig, 'shared.csv', csv(columns, images(4000)));
  const id = await backfill(rig, 'digits-deep', { input: 'shared.csv', output: 'shared-out.csv' }, { chunkRows: 200 });
  expect((await ends(rig, id)).progress).toMatchObject({ state: 'completed', rows: { done: 4000 } });
  const shares = (await Promise.all(urls.map(chunksOf))).map((chunks, place) => chunks - (before[place] as number));
  expect([Math.min(...shares) > 0, shares.reduce((sum, chunks) => sum + chunks)]).toEqual([true, 20]);
});
