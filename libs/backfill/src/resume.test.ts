// Whatever dies, and whenever: what is left is enough to go on, and nothing is lost or doubled.
import { execFile } from 'node:child_process';
import { appendFile, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { MillraceError } from '@millrace/protocol';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { assemble } from './assemble.ts';
import { forgetPart, writePart } from './part.ts';
import { type Chunk, isText } from './plan.ts';
import { addPart, hasTooManyErrors, nothingDone, readParts, readPlan, writePlan } from './progress.ts';
import { discardBlock, readTotals, stage } from './stage.ts';
import { addPairs, facts, outcomeOf, Trial } from './trial.ts';
import { WorkFolder } from './work-place.ts';

let trial: Trial;
beforeEach(async () => {
  trial = await Trial.open();
});
afterEach(() => trial.close());

const rows = (count: number, from = 0): string => Array.from({ length: count }, (_, index) => `${from + index},"1"\n`).join('');
const job = (input: string) => ({ input: { uri: input }, output: { uri: trial.path('out.ndjson') } });

test('a coordinator that died goes on behind the last chunk it staged', async () => {
  await trial.put('in-1.csv', `a,b\n${rows(25)}`);
  await trial.put('in-2.csv', `a,b\r\n${rows(25, 25).replaceAll('\n', '\r\n')}`);
  const plan = await trial.check(job(trial.path('in-*.csv')), { limits: { rows: 4 } });
  await writePlan(trial.work, plan);
  expect(await readPlan(trial.work)).toEqual(plan);

  const staged: Chunk[] = [];
  for (let lives = 0; lives < 20 && await readTotals(trial.work) === undefined; lives++) {
    // It dies after two chunks more than it found; whatever was being written then is left as it is.
    const before = (await trial.work.list('chunks')).length;
    const again: Chunk[] = [];
    for await (const chunk of trial.chunks(plan)) {
      again.push(chunk);
      if (again.length >= before + 2) break;
    }
    expect(again.slice(0, staged.length)).toEqual(staged);
    staged.splice(0, staged.length, ...again);
  }
  expect(await readTotals(trial.work)).toEqual({ chunks: 14, rows: 50 });
  for (const chunk of staged) await trial.runChunk(plan, chunk);
  await trial.assemble(plan);
  expect((await trial.readJson('out.ndjson')).map(({ row, sum }) => [row, sum])).toEqual(Array.from({ length: 50 }, (_, index) => [index + 1, index + 1]));
});

test.each(['csv', 'parquet'])('%s: chunks of another size go on where the ones before ended', async (format) => {
  const input = format === 'csv'
    ? await trial.put('in.csv', `a,b\n${rows(50)}`)
    : await trial.parquet('in.parquet', 'SELECT i::FLOAT AS a, 1::FLOAT AS b FROM range(5000) t(i)', ', ROW_GROUP_SIZE 2048');
  const total = format === 'csv' ? 50 : 5000;
  const plan = await trial.check(job(input), { limits: { rows: total / 5 } });
  const staged = (least: number) => stage(plan, { work: trial.work, rowsAfter: (before) => Math.max(least, before / 10) });
  const first: Chunk[] = [];
  for await (const chunk of staged(total / 50)) if (first.push(chunk) === 3) break;
  const all = await Array.fromAsync(staged(total));
  expect(all.slice(0, 3)).toEqual(first);
  expect(await Array.fromAsync(staged(1))).toEqual(all);
  let next = 1;
  for (const { firstRow, rows: count } of all) {
    expect([firstRow, count > 0, count <= total / 5]).toEqual([next, true, true]);
    next += count;
  }
  expect([next, Math.max(...first.map(({ rows: count }) => count)) < (all.at(-2)?.rows as number)]).toEqual([total + 1, true]);
  for (const chunk of all) await trial.runChunk(plan, chunk);
  await trial.assemble(plan);
  expect((await trial.readJson('out.ndjson')).map(({ row, sum }) => [row, sum])).toEqual(Array.from({ length: total }, (_, index) => [index + 1, index + 1]));
});

test.each(['csv', 'csv.gz', 'parquet'])('%s: two who stage at the same time, each with its own idea of sizes, give the same chunks', async (format) => {
  const { gzipSync } = await import('node:zlib');
  const input = format === 'parquet'
    ? await trial.parquet('in.parquet', 'SELECT i::FLOAT AS a, 1::FLOAT AS b FROM range(300) t(i)')
    : await trial.put(`in.${format}`, format === 'csv' ? `a,b\n${rows(300)}` : gzipSync(`a,b\n${rows(300)}`));
  const plan = await trial.check(job(input));
  const chunksOf = (size: number) => Array.fromAsync(stage(plan, { work: trial.work, rowsAfter: () => size }));
  const [one, another] = await Promise.all([chunksOf(7), chunksOf(11)]);
  expect(another).toEqual(one);
  expect(await chunksOf(300)).toEqual(one);
  for (const chunk of one) await trial.runChunk(plan, chunk);
  expect(await trial.assemble(plan)).toMatchObject({ rows: { input: 300, output: 300 } });
  expect((await trial.readJson('out.ndjson')).map(({ sum }) => sum)).toEqual(Array.from({ length: 300 }, (_, index) => index + 1));
  // Of blocks that lost nothing stays.
  expect(await trial.work.list('blocks')).toHaveLength(format === 'csv.gz' ? one.length : 0);
});

test('a record that was written although it was said to be taken keeps its block', async () => {
  const { gzipSync } = await import('node:zlib');
  const plan = await trial.check(job(await trial.put('in.csv.gz', gzipSync(`a,b\n${rows(30)}`))), { limits: { rows: 10 } });
  const writeFirst = trial.work.writeFirst.bind(trial.work);
  trial.work.writeFirst = async (name, text) => await writeFirst(name, text) && !name.startsWith('chunks/');
  const chunks = await Array.fromAsync(trial.chunks(plan));
  expect([chunks.length, (await trial.work.list('blocks')).length]).toEqual([3, 3]);
  for (const chunk of chunks) await trial.runChunk(plan, chunk);
  expect(await trial.assemble(plan)).toMatchObject({ rows: { input: 30, output: 30 } });
});

test('how far it is tells about how many rows there are, from the first chunk on and behind any', async () => {
  const plan = await trial.check(job(await trial.put('in.csv', `a,b\n${rows(1000, 1000)}`)), { limits: { rows: 10 } });
  const estimates: number[] = [];
  const staged = () => stage(plan, { work: trial.work, onProgress: ({ rows: so, bytes, totalBytes }) => estimates.push(Math.round(so * totalBytes / bytes)) });
  for await (const chunk of staged()) if (chunk.index === 49) break;
  await Array.fromAsync(staged());
  expect([estimates.length, Math.min(...estimates) > 900, Math.max(...estimates) <= 1000]).toEqual([100, true, true]);
});

test('a record that is gone is missed, and nothing is staged in its place', async () => {
  const plan = await trial.check(job(await trial.put('in.csv', `a,b\n${rows(50)}`)), { limits: { rows: 10 } });
  await Array.fromAsync(trial.chunks(plan));
  await rm(trial.path('work/chunks/00000002.json'));
  await expect(Array.fromAsync(trial.chunks(plan))).rejects.toMatchObject({ code: 'storage-unavailable', message: 'chunks/00000002.json is gone, or is not what was written there' });
});

test('gz: the offset counts what was decompressed', async () => {
  const { gzipSync } = await import('node:zlib');
  const input = await trial.put('in.csv.gz', gzipSync(`a,b\n${rows(30)}`));
  const plan = await trial.check(job(input), { limits: { rows: 7 } });
  for await (const chunk of trial.chunks(plan)) if (chunk.index === 1) break;
  await rm(trial.path('work/chunks/00000003.json'), { force: true });
  const chunks = await Array.fromAsync(trial.chunks(plan));
  expect(chunks.map(({ firstRow, firstLine, rows }) => [firstRow, firstLine, rows])).toEqual([[1, 2, 7], [8, 9, 7], [15, 16, 7], [22, 23, 7], [29, 30, 2]]);
});

test('blank lines, however many, are not kept', async () => {
  const { gzipSync } = await import('node:zlib');
  const input = await trial.put('in.csv.gz', gzipSync(`${'\n'.repeat(500)}a,b\n1,1\n${'\n'.repeat(50_000)}2,2\n${'\r\n'.repeat(5000)}`));
  const plan = await trial.check(job(input), { limits: { bytes: 1000 } });
  const chunks = await Array.fromAsync(trial.chunks(plan));
  expect(chunks.map(({ index, firstRow, rows }) => [index, firstRow, rows])).toEqual([[0, 1, 1], [1, 2, 1]]);
  expect(chunks.every(({ data }) => isText(data) && data.sizeBytes <= 1004)).toBe(true);
  for (const chunk of chunks) await trial.runChunk(plan, chunk);
  expect(await trial.assemble(plan)).toMatchObject({ rows: { input: 2, output: 2 } });
});

test('a chunk that runs twice, also at the same time, leaves one part', async () => {
  const input = await trial.put('in.csv', `a,b\n${rows(10)}x,1\n`);
  const plan = await trial.check(job(input));
  const [chunk] = await Array.fromAsync(trial.chunks(plan)) as [Chunk];
  const half = (opened: Awaited<ReturnType<Trial['open']>>, times: number) => outcomeOf(opened, (tensors, count) => {
    const outputs = addPairs(tensors, count);
    return { ...outputs, sum: { dtype: 'float32', shape: [count, 1], data: new Uint8Array(Float32Array.from({ length: count }, () => times).buffer) } };
  }, plan);
  const runs = await Promise.all([1, 2, 3, 3].map(async (times) => {
    const open = await trial.open(plan, chunk);
    const part = await writePart(plan, open, half(open, times), { work: trial.work });
    await open.close();
    return part;
  }));
  const [first] = runs;
  expect(runs).toEqual([first, first, first, first]);
  expect(await readParts(trial.work)).toEqual(new Map([[0, first]]));
  expect(await readdir(trial.path('work/parts'))).toHaveLength(3);
  await trial.assemble(plan);
  const sums = new Set((await trial.readJson('out.ndjson')).map(({ sum }) => sum));
  expect(sums.size).toBe(1);
  expect(await trial.assemble(plan)).toMatchObject({ rows: { input: 11, output: 10, failed: 1 } });
});

test('an input that changed or vanished is told from the one that it was', async () => {
  const input = await trial.put('in.csv', `a,b\n${rows(20)}`);
  const plan = await trial.check(job(input), { limits: { rows: 4 } });
  for await (const chunk of trial.chunks(plan)) if (chunk.index === 1) break;
  const reason = () => Array.fromAsync(trial.chunks(plan)).then(() => 'nothing', (error: unknown) => [(error as MillraceError).code, (error as MillraceError).message.replace(trial.folder, '')]);
  await appendFile(input, '1,1\n');
  expect(await reason()).toEqual(['input-changed', expect.stringMatching(/^\/in\.csv has \d+ bytes, and had \d+$/)]);
  await rename(input, trial.path('elsewhere.csv'));
  expect(await reason()).toEqual(['input-changed', '/in.csv is gone']);

  const parquet = await trial.parquet('in.parquet', 'SELECT i::FLOAT AS a, 1::FLOAT AS b FROM range(10) t(i)');
  const second = await trial.check({ ...job(parquet), output: { uri: trial.path('second.csv') } });
  const [chunk] = await Array.fromAsync(trial.chunks(second)) as [Chunk];
  await trial.parquet('in.parquet', 'SELECT i::FLOAT AS a, 1::FLOAT AS b FROM range(9) t(i)');
  await expect(trial.open(second, chunk)).rejects.toMatchObject({ code: 'input-changed' });

  // Exchanged for one like it between reading and writing, ids or originals would be another file's.
  for (const [name, b] of [['ids', '1'], ['originals', 'CASE WHEN i < 5 THEN 1 END']] as const) {
    trial.work = new WorkFolder(trial.path(`work/${name}`));
    const exchanged = await trial.parquet(`${name}.parquet`, `SELECT i::FLOAT AS a, (${b})::FLOAT AS b, 'old' AS id FROM range(10) t(i)`);
    await trial.parquet('new.parquet', `SELECT i::FLOAT AS a, (${b})::FLOAT AS b, 'new' AS id FROM range(10) t(i)`);
    const plan = await trial.check({ ...job(exchanged), output: { uri: trial.path(`${name}.csv`) }, mapping: { x: ['a', 'b'] }, ...(name === 'ids' && { id_column: 'id' }) });
    const [only] = await Array.fromAsync(trial.chunks(plan)) as [Chunk];
    const open = await trial.open(plan, only);
    await rename(trial.path('new.parquet'), exchanged);
    await expect(writePart(plan, open, outcomeOf(open, addPairs, plan), { work: trial.work })).rejects.toMatchObject({ code: 'input-changed' });
    await open.close();
    expect(await readParts(trial.work)).toEqual(new Map());
  }

  const lines = await trial.put('lines.csv', `a,b\n${rows(20)}`);
  const third = await trial.check({ ...job(lines), output: { uri: trial.path('third.csv') } });
  trial.work = new WorkFolder(trial.path('work/third'));
  const [range] = await Array.fromAsync(trial.chunks(third)) as [Chunk];
  await writeFile(lines, `a,b\n${rows(20)}`);
  await expect(trial.open(third, range)).rejects.toMatchObject({ code: 'input-changed', message: `${lines} was changed` });
  await rm(lines);
  await expect(trial.open(third, range)).rejects.toMatchObject({ code: 'input-changed', message: `${lines} is gone` });
});

test('text that is staged as blocks is not needed again; what is read in place is', async () => {
  const { gzipSync } = await import('node:zlib');
  await trial.put('in-1.csv.gz', gzipSync(`a,b\n${rows(10)}`));
  await trial.put('in-2.csv.gz', gzipSync(`a,b\n${rows(10, 10)}`));
  const plan = await trial.check({ ...job(trial.path('in-*.csv.gz')), input: { uri: trial.path('in-*.csv.gz'), format: 'csv' } }, { limits: { rows: 4 } });
  // It stops in the second file: the first one is not looked at any more.
  for await (const chunk of trial.chunks(plan)) if (chunk.index === 3) break;
  await rm(trial.path('in-1.csv.gz'));
  const staged = await Array.fromAsync(trial.chunks(plan));
  await rm(trial.path('in-2.csv.gz'));
  expect(await Array.fromAsync(trial.chunks(plan))).toEqual(staged);
  for (const chunk of staged) await trial.runChunk(plan, chunk);
  expect(await trial.assemble(plan)).toMatchObject({ rows: { input: 20, output: 20 } });

  trial.work = new WorkFolder(trial.path('work/plain'));
  const plain = await trial.put('in.csv', `a,b\n${rows(10)}`);
  const second = await trial.check({ ...job(plain), output: { uri: trial.path('second.csv') } });
  await Array.fromAsync(trial.chunks(second));
  await rm(plain);
  await expect(Array.fromAsync(trial.chunks(second))).rejects.toMatchObject({ code: 'input-changed', message: `${plain} is gone` });
});

test('a later file with another header, a row that is too long, a broken archive: the failure names the place', async () => {
  await trial.put('in-1.csv', 'a,b\n1,2\n');
  await trial.put('in-2.csv', 'b,a\n1,2\n');
  const failure = async (uri: string, rowBytes = 1000) => {
    await trial.work.clear();
    const chunks = async () => Array.fromAsync(trial.chunks(await trial.check(job(uri), { limits: { rowBytes } })));
    return chunks().then(() => 'nothing', (error: unknown) => [(error as MillraceError).code, (error as MillraceError).message.replace(trial.folder, '')]);
  };
  expect(await failure(trial.path('in-*.csv'))).toEqual(['unreadable-input', '/in-2.csv: its header differs from the first file\'s']);
  const long = await trial.put('long.csv', `a,b\n${rows(200)}1,${' '.repeat(5000)}2\n`);
  expect(await failure(long)).toEqual(['unreadable-input', '/long.csv, at line 202: a row is longer than 1000 bytes']);
  const open = await trial.put('open.csv', `a,b\n${rows(200)}1,"2\n${rows(2000)}`.replaceAll(/,"1"/g, ',1'));
  expect(await failure(open)).toEqual(['unreadable-input', expect.stringMatching(/^\/open\.csv, at line \d+: a row is longer than 1000 bytes, or its quotes are not closed$/)]);
  const { gzipSync } = await import('node:zlib');
  const broken = await trial.put('broken.csv.gz', gzipSync(`a,b\n${rows(5000)}`).subarray(0, 4000));
  expect(await failure(broken)).toEqual(['unreadable-input', '/broken.csv.gz: unexpected end of file']);
});

test('assembling refuses a missing chunk and a damaged part, and leaves nothing under a final name', async () => {
  const input = await trial.put('in.csv', `a,b\n${rows(10)}`);
  const plan = await trial.check(job(input), { limits: { rows: 4 } });
  await expect(trial.assemble(plan)).rejects.toThrow('the input is not staged to its end');
  const chunks = await Array.fromAsync(trial.chunks(plan));
  for (const chunk of chunks.slice(0, 2)) await trial.runChunk(plan, chunk);
  await expect(trial.assemble(plan)).rejects.toThrow('chunk 2 has no part');
  const part = await trial.runChunk(plan, chunks[2] as Chunk);
  const whole = await readFile(trial.path(join('work', part.data.name)));
  await writeFile(trial.path(join('work', part.data.name)), whole.subarray(1));
  await expect(trial.assemble(plan)).rejects.toMatchObject({ code: 'storage-unavailable', message: `${part.data.name} is not what was written there` });
  expect(await trial.names()).toEqual(['in.csv']);
  await writeFile(trial.path(join('work', part.data.name)), whole);
  expect(await trial.assemble(plan)).toMatchObject({ rows: { input: 10, output: 10 } });
});

test('a coordinator that lost its lease while it assembled does no harm to the one that took over', async () => {
  const input = await trial.put('in.csv', `a,b\n${rows(10)}`);
  const plan = await trial.check(job(input), { limits: { rows: 4 } });
  for await (const chunk of trial.chunks(plan)) await trial.runChunk(plan, chunk);
  // Each stands still before its last part until it is told to go on.
  const assembling = (signal?: AbortSignal) => {
    const [reached, goOn] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const work = new WorkFolder(trial.path('work'));
    let fetched = 0;
    const fetch = work.fetch.bind(work);
    work.fetch = async (name) => {
      if (++fetched === 3) {
        reached.resolve();
        await goOn.promise;
      }
      return fetch(name);
    };
    return { reached: reached.promise, goOn: goOn.resolve, ended: assemble(plan, { work, engine: trial.engine, target: trial.target, facts, signal }) };
  };
  await trial.put(`.out.ndjson.${facts.id}.dead.partial`, 'left by one that was killed');
  const lost = new AbortController();
  const first = assembling(lost.signal);
  await first.reached;
  const second = assembling();
  await second.reached;
  lost.abort(new Error('the lease is lost'));
  first.goOn();
  await expect(first.ended).rejects.toThrow('the lease is lost');
  second.goOn();
  expect(await second.ended).toMatchObject({ rows: { input: 10, output: 10 } });
  expect(await trial.readJson('out.ndjson')).toHaveLength(10);
  expect(await trial.names()).toEqual(['in.csv', 'out.manifest.json', 'out.ndjson']);
});

test('what came to stand under the output’s name meanwhile is not replaced, unless it is the backfill’s own or it may be', async () => {
  const input = await trial.put('in.csv', `a,b\n${rows(10)}`);
  const planOf = async (overwrite = false) => {
    const plan = await trial.check({ ...job(input), output: { uri: trial.path('out.ndjson'), overwrite } });
    for await (const chunk of trial.chunks(plan)) await trial.runChunk(plan, chunk);
    return plan;
  };
  const plan = await planOf();
  await trial.put('out.ndjson', 'another’s');
  await expect(trial.assemble(plan)).rejects.toMatchObject({ code: 'invalid-backfill', message: `${trial.path('out.ndjson')} is there by now: move it away and resume` });
  expect([await trial.read('out.ndjson'), await trial.names()]).toEqual(['another’s', ['in.csv', 'out.ndjson']]);
  await trial.assemble(await planOf(true));
  await rm(trial.path('out.ndjson'));
  await rm(trial.path('out.manifest.json'));
  // As after a crash behind the first file's publication, and in a round of retries.
  for (let times = 0; times < 2; times++) expect(await trial.assemble(plan)).toMatchObject({ rows: { output: 10 } });
});

test('only text that does not stand in its file as it is read is copied, and only until its part is there', async () => {
  const staged = async (name: string, content: string | Uint8Array, encoding: 'utf-8' | 'latin-1' = 'utf-8') => {
    trial.work = new WorkFolder(trial.path(`work/${name}`));
    const plan = await trial.check({ ...job(await trial.put(name, content)), input: { uri: trial.path(name), encoding } });
    const chunks = await Array.fromAsync(trial.chunks(plan));
    const blocks = await trial.work.list('blocks');
    for (const chunk of chunks) await discardBlock(chunk, trial.work);
    return [...blocks, ...await trial.work.list('blocks')];
  };
  const { gzipSync } = await import('node:zlib');
  expect(await staged('plain.csv', `a,b\n${rows(10)}`)).toEqual([]);
  expect(await staged('zipped.csv.gz', gzipSync(`a,b\n${rows(10)}`))).toEqual([expect.stringMatching(/^00000000-[0-9a-f]{8}\.csv$/)]);
  expect(await staged('recoded.csv', `a,b\n${rows(10)}`, 'latin-1')).toEqual([expect.stringMatching(/^00000000-[0-9a-f]{8}\.csv$/)]);
});

test('counts what failed against what the job allows', async () => {
  const input = await trial.put('in.csv', `a,b\n${rows(9)}x,1\n`);
  const plan = await trial.check(job(input));
  const [chunk] = await Array.fromAsync(trial.chunks(plan)) as [Chunk];
  const tally = addPart(nothingDone, await trial.runChunk(plan, chunk));
  expect(tally).toEqual({ chunks: 1, rows: 10, written: 9, failed: 1 });
  expect([undefined, 0, 0.05, 0.1].map((ratio) => hasTooManyErrors(tally, ratio))).toEqual([false, true, true, false]);
});

test('rows that the model refused stand in the error file with their original', async () => {
  const input = await trial.put('in.csv', `a,b\n${rows(5)}`);
  const plan = await trial.check(job(input));
  const [chunk] = await Array.fromAsync(trial.chunks(plan)) as [Chunk];
  const open = await trial.open(plan, chunk);
  const [done] = outcomeOf(open, addPairs, plan).done;
  if (!done) throw new Error('no rows');
  const outputs = addPairs({ x: { dtype: 'float32', shape: [4, 2], data: new Uint8Array(Float32Array.from([0, 1, 1, 1, 3, 1, 4, 1]).buffer) } }, 4);
  await expect(writePart(plan, open, { done: [{ positions: Int32Array.of(0, 1, 3, 4), outputs }], failed: [] }, { work: trial.work })).rejects.toThrow('row 2 of a chunk has 0 outcomes, and not one');
  await writePart(plan, open, { done: [{ positions: Int32Array.of(0, 1, 3, 4), outputs }], failed: [{ position: 2, code: 'model-failed', reason: 'too hot' }] }, { work: trial.work });
  await open.close();
  await trial.assemble(plan);
  expect((await trial.readJson('out.ndjson')).map(({ row, sum }) => [row, sum])).toEqual([[1, 1], [2, 2], [4, 4], [5, 5]]);
  expect(await trial.readJson('out.errors.ndjson')).toEqual([{ row: 3, file: input, line: 4, code: 'model-failed', reason: 'too hot', original: '2,"1"' }]);

  await forgetPart(trial.work, await trial.runChunk(plan, chunk));
  expect(await trial.runChunk(plan, chunk)).toMatchObject({ written: 5, errors: undefined });
  expect(await trial.assemble(plan)).toMatchObject({ rows: { output: 5, failed: 0 }, errors: null });
  expect(await trial.names()).toEqual(['in.csv', 'out.manifest.json', 'out.ndjson']);
});

test('no room on the disk is a clear failure, and goes on later', async () => {
  const input = await trial.put('in.csv', `a,b\n${rows(20_000)}`);
  // A limit on the size of files stands in for the full disk: the same calls fail in the same way.
  const script = join(import.meta.dirname, 'no-room.trial.ts');
  const run = promisify(execFile);
  const limited = await run('sh', ['-c', 'ulimit -f 100; exec "$0" "$@"', process.execPath, script, input, trial.folder]);
  expect(JSON.parse(limited.stdout)).toMatchObject({ code: 'storage-unavailable', message: expect.stringMatching(/too large/i) as string });
  expect(await trial.names()).toEqual(['in.csv']);
  const free = await run(process.execPath, [script, input, trial.folder]);
  expect(JSON.parse(free.stdout)).toMatchObject({ rows: { input: 20_000, output: 20_000, failed: 0 } });
  expect(await trial.names()).toEqual(['in.csv', 'out.manifest.json', 'out.ndjson']);
});
