// `millrace backfill` as a user meets it: by itself, and with a running API.
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DuckDBInstance } from '@duckdb/node-api';
import type { Backfill } from '@millrace/protocol';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type BackfillRig, pin, startBackfills } from './backfill-rig.ts';
import { descendants, launch, lives, millrace, stop } from './cli-rig.ts';
import { difference, runDirect } from './direct.ts';
import { bundledModels, root, temporaryFolder, until, within } from './rig.ts';

const interrupted = 130;
const pixels = ['--map', 'image=p0..p63'];

let rig: BackfillRig;
/** The digits of deploy/data. */
let digits: readonly (readonly number[])[];
let header: string;

beforeAll(async () => {
  rig = await startBackfills();
  const [first = '', ...lines] = (await readFile(path.join(root, 'deploy/data/digits-test.csv'), 'utf8')).trim().split('\n');
  header = first;
  digits = lines.map((line) => line.split(',').map(Number));
});
afterAll(() => rig.stop());

/** The digits over and over, with an id each. */
async function writeDigits(file: string, times: number): Promise<void> {
  const rows = Array.from({ length: times }, (_, round) => digits.map((row, place) => `d${round * digits.length + place},${row.join()}`)).flat();
  await writeFile(file, `id,${header}\n${rows.join('\n')}\n`);
}

interface Line {
  readonly row?: number;
  readonly id?: string;
  readonly y?: number;
  readonly probabilities?: readonly number[];
}

async function lines(file: string): Promise<Line[]> {
  return (await readFile(file, 'utf8')).trim().split('\n').map((line) => JSON.parse(line) as Line);
}

/** Every row in order, as `session.run` has it. */
async function expectDigits(found: readonly Line[], model: string, times: number): Promise<void> {
  const { signature } = await pin(rig, model);
  const { probabilities } = await runDirect(bundledModels, model, signature, { image: digits.map((row) => row.slice(0, 64)) }) as { probabilities: number[][] };
  expect(found.map(({ id }) => id)).toEqual(Array.from({ length: times * digits.length }, (_, row) => `d${row}`));
  expect(difference(found.map((line) => line.probabilities), found.map((_, row) => probabilities[row % digits.length]))).toBeLessThan(1e-5);
}

/** Waits until so many rows are done, as the progress on standard error has it. */
function untilRows({ err }: { readonly err: string }, least: number): boolean {
  const [, done = '0'] = [...err.matchAll(/([\d,]+)(?:\/[\d,]+)? rows/g)].at(-1) ?? [];
  return Number(done.replaceAll(',', '')) >= least;
}

test('without an API it starts what it needs, writes what session.run gives, and leaves nothing but the output', async () => {
  const folder = await temporaryFolder();
  await writeDigits(path.join(folder, 'digits.csv'), 10);
  const { child, said } = launch(['backfill', '--model', 'digits', '--input', path.join(folder, 'digits.csv'), '--output', path.join(folder, 'out.parquet'), '--id', 'id', ...pixels, '--workers', '1']);
  const ended = once(child, 'close');
  await until(() => said.err.includes('bf_'), 'the backfill');
  const pids = await descendants(child.pid as number);
  expect(pids.length).toBeGreaterThanOrEqual(4);
  await within(60, ended, 'the end');
  expect([child.exitCode, pids.filter(lives)]).toEqual([0, []]);
  expect(said.err).not.toMatch(/WARN|ERROR|FATAL/);
  expect(said.out).toMatch(/^ {2}rows +3,600\n {2}written +3,600\n {2}failed +0\n {2}time +[\d.]+ s +[\d,]+ rows\/s\n {2}output +\S+out\.parquet\n {2}manifest +\S+out\.manifest\.json\n$/);
  expect((await readdir(folder)).toSorted()).toEqual(['digits.csv', 'out.manifest.json', 'out.parquet']);
  const connection = await (await DuckDBInstance.create()).connect();
  const found = (await connection.runAndReadAll(`SELECT id, probabilities FROM '${path.join(folder, 'out.parquet')}'`)).getRowObjectsJson() as Line[];
  connection.closeSync();
  await expectDigits(found, 'digits', 10);
});

test('Ctrl-C pauses it, and the command that it prints goes on where it stopped', async () => {
  const folder = await temporaryFolder();
  await writeDigits(path.join(folder, 'digits.csv'), 10);
  const args = ['backfill', '--model', 'digits-deep', '--input', path.join(folder, 'digits.csv'), '--output', path.join(folder, 'out.ndjson'), '--id', 'id', ...pixels, '--chunk-rows', '100', '--workers', '1'];
  const { child, said } = launch(args);
  await until(async () => (await readdir(path.join(folder, 'out.ndjson.backfill/work')).catch(() => [])).length > 0 && said.err.includes('bf_'), 'the backfill');
  const [id = ''] = /bf_[0-9a-f]{32}/.exec(said.err) ?? [];
  await until(async () => (await readdir(path.join(folder, 'out.ndjson.backfill/work', id, 'parts')).catch(() => [])).length > 4, 'some parts');
  expect(await within(60, stop(child), 'the end')).toBe(interrupted);
  expect(said.err).toMatch(/The backfill is paused, at [\d,]+(?: of 3,600)? rows\./);
  expect((await readdir(folder)).toSorted()).toEqual(['digits.csv', 'out.ndjson.backfill']);

  const [, command = ''] = /^To go on: millrace (.+)$/m.exec(said.err) ?? [];
  expect(command.split(' ')).toEqual(args);
  const other = await millrace(['backfill', '--model', 'digits-deep', '--input', path.join(folder, 'digits.csv'), '--output', path.join(folder, 'out.ndjson'), '--workers', '1']);
  expect([other.code, other.err]).toEqual([1, expect.stringContaining(`${id} is paused and writes to the same output`)]);
  const again = await within(100, millrace(command.split(' ')), 'the end');
  expect(again).toMatchObject({ code: 0, out: expect.stringMatching(/rows +3,600, [\d,]+ of them in this run/), err: expect.stringMatching(new RegExp(`${id}, which goes on at [1-9][\\d,]* rows`)) });
  expect((await readdir(folder)).toSorted()).toEqual(['digits.csv', 'out.manifest.json', 'out.ndjson']);
  await expectDigits(await lines(path.join(folder, 'out.ndjson')), 'digits-deep', 10);
});

test('killed with all that it had started, the same command ends what it began', async () => {
  const folder = await temporaryFolder();
  await writeDigits(path.join(folder, 'digits.csv'), 10);
  const args = ['backfill', '--model', 'digits-deep', '--input', path.join(folder, 'digits.csv'), '--output', path.join(folder, 'out.ndjson'), '--id', 'id', ...pixels, '--chunk-rows', '100', '--workers', '1'];
  const { child, said } = launch(args);
  await until(() => untilRows(said, 100) || /bf_/.test(said.err), 'the backfill');
  const [id = ''] = /bf_[0-9a-f]{32}/.exec(said.err) ?? [];
  await until(async () => (await readdir(path.join(folder, 'out.ndjson.backfill/work', id, 'parts')).catch(() => [])).length > 4, 'some parts');
  const pids = [child.pid as number, ...await descendants(child.pid as number)];
  for (const pid of pids) if (lives(pid)) process.kill(pid, 'SIGKILL');
  await until(() => pids.every((pid) => !lives(pid)), 'the end of all');

  const again = await within(110, millrace(args), 'the end');
  expect(again).toMatchObject({ code: 0, out: expect.stringContaining('  failed    0') });
  await expectDigits(await lines(path.join(folder, 'out.ndjson')), 'digits-deep', 10);
  expect((await readdir(folder)).toSorted()).toEqual(['digits.csv', 'out.manifest.json', 'out.ndjson']);
});

test('rows that fail are counted and named, and exit with 0; more than may, with 1', async () => {
  const file = (name: string) => path.join(rig.folder, name);
  const values = Array.from({ length: 400 }, (_, row) => (row % 100 === 50 ? -1 : row % 100 === 60 ? 'many' : row % 7));
  await writeFile(file('picky.csv'), `x\n${values.join('\n')}\n`);
  const args = ['backfill', '--model', 'fails-on-negative', '--input', file('picky.csv'), '--url', rig.system.url];
  const some = await millrace([...args, '--output', file('some.ndjson'), '--max-error-ratio', '0.5']);
  expect(some).toMatchObject({ code: 0, out: expect.stringMatching(/written +392\n {2}failed +8\n[^]+ {2}errors +\S+some\.errors\.ndjson\n/) });
  expect((await lines(file('some.ndjson'))).map(({ row, y }) => [row, y])).toEqual(values.flatMap((value, row) => (typeof value === 'number' && value >= 0 ? [[row + 1, value ** 2]] : [])));
  expect((await lines(file('some.errors.ndjson'))).map(({ row }) => row)).toEqual([51, 61, 151, 161, 251, 261, 351, 361]);
  const none = await millrace([...args, '--output', file('none.ndjson'), '--max-error-ratio', '0.01']);
  expect(none).toMatchObject({ code: 1, out: '', err: expect.stringContaining('max_error_ratio is 0.01') });
  expect((await readdir(rig.folder)).filter((name) => name.startsWith('none'))).toEqual([]);
});

const faults = [
  ['a column that is not there', ['--map', 'image=p0..p62,q'], /\n {2}#\/mapping\/image\/63: there is no column "q"/],
  ['a model that is not there', ['--model', 'nope'], /no model "nope"[^\n]*\n {2}#\/model: /],
  ['an input that the model has not', ['--map', 'pixels=p0'], /\n {2}#\/mapping\/pixels: the model has no such input: it has "image"/],
  ['too few columns', ['--map', 'image=p0,p1'], /\n {2}#\/mapping\/image: .*expected 64 columns, got 2/],
  ['a file that is not there', ['--input', 'nothing.csv'], /nothing\.csv: there is no such file/],
  ['an output that is there already', ['--output', 'faulty.csv'], /faulty\.csv is there already/],
  ['an output that tells no format', ['--output', 'out.data'], /\n {2}#\/output\/format: /],
] as const;

/** Runs it on a file of the folder; the arguments may name others. */
function faulty(folder: string, args: readonly string[], more: readonly string[]) {
  const names = args.map((arg) => (/^[\w-]+\.\w+$/.test(arg) ? path.join(folder, arg) : arg));
  return millrace(['backfill', '--model', 'digits', '--input', path.join(folder, 'faulty.csv'), '--output', path.join(folder, 'faulty-out.csv'), ...names, ...more]);
}

test.each(faults)('with %s it says so and exits with 1', async (_name, args, says) => {
  await writeDigits(path.join(rig.folder, 'faulty.csv'), 1);
  const { code, out, err } = await faulty(rig.folder, args, ['--url', rig.system.url]);
  expect([code, out, err]).toEqual([1, '', expect.stringMatching(says)]);
  expect(err).not.toMatch(/^ +at /m);
  expect((await readdir(rig.folder)).filter((name) => /faulty-|out\.data|\.backfill/.test(name))).toEqual([]);
});

test.each([...faults.slice(0, 2), ['no models', ['--models', '/nowhere'], /there is no such folder/] as const])('without an API, with %s, it leaves nothing', async (_name, args, says) => {
  const folder = await temporaryFolder();
  await writeDigits(path.join(folder, 'faulty.csv'), 1);
  const { code, out, err } = await faulty(folder, args, ['--workers', '1']);
  expect([code, out, err]).toEqual([1, '', expect.stringMatching(says)]);
  expect(await readdir(folder)).toEqual(['faulty.csv']);
});

test('what an earlier run has left is kept where nobody can go on with it, and thrown away by --restart', async () => {
  const folder = await temporaryFolder();
  await writeFile(path.join(folder, 'in.csv'), 'a,b,c,d\n5.1,3.5,1.4,0.2\n');
  const left = path.join(folder, 'out.csv.backfill/redis/appendonlydir');
  await mkdir(left, { recursive: true });
  await writeFile(path.join(left, 'appendonly.aof.manifest'), 'broken');
  const args = ['backfill', '--model', 'iris', '--input', path.join(folder, 'in.csv'), '--output', path.join(folder, 'out.csv'), '--workers', '1'];
  expect(await millrace(args)).toMatchObject({ code: 1, out: '', err: expect.stringContaining('redis-server ended at its start') });
  expect(await readdir(left)).toEqual(['appendonly.aof.manifest']);
  expect(await millrace([...args, '--restart'])).toMatchObject({ code: 0, out: expect.stringContaining('  written   1\n') });
  expect((await readdir(folder)).toSorted()).toEqual(['in.csv', 'out.csv', 'out.manifest.json']);
});

test('a running API is used where there is one, and shows it', async () => {
  const file = (name: string) => path.join(rig.folder, name);
  await writeDigits(file('digits.csv'), 5);
  const { code, out, err } = await millrace(['backfill', '--model', 'digits', '--input', file('digits.csv'), '--output', file('out.ndjson'), '--id', 'id', ...pixels, '--json'], '', { MILLRACE_URL: rig.system.url });
  const ended = JSON.parse(out) as Backfill;
  expect([code, err]).toEqual([0, expect.not.stringContaining('Starting')]);
  expect(ended).toMatchObject({ status: 'completed', rows: { total: 1800, done: 1800, failed: 0 }, manifest: { uri: file('out.manifest.json') }, errors: null });
  await expectDigits(await lines(file('out.ndjson')), 'digits', 5);
  const url = ['--url', rig.system.url];
  expect(JSON.parse((await millrace(['backfill', 'get', ended.id, '--json', ...url])).out)).toEqual(ended);
  const listed = await millrace(['backfill', 'list', '--status', 'completed', ...url]);
  expect(listed.out).toMatch(new RegExp(`^\\S+  ${ended.id}  completed  digits@1  1,800/1,800 rows  ${file('out.ndjson')}$`, 'm'));
  expect(await millrace(['backfill', 'retry', ended.id, ...url])).toMatchObject({ code: 1, out: '', err: expect.stringContaining('None of its rows failed') });
  expect(await millrace(['backfill', 'get', 'bf_nothing', ...url])).toMatchObject({ code: 1, err: expect.stringContaining('no such backfill') });
});

test('Ctrl-C pauses it at the API too, where it can be resumed, canceled or begun again', async () => {
  const file = (name: string) => path.join(rig.folder, name);
  await writeDigits(file('more.csv'), 20);
  const url = ['--url', rig.system.url];
  const args = ['backfill', '--model', 'digits-deep', '--input', file('more.csv'), '--output', file('more.ndjson'), '--id', 'id', ...pixels, '--chunk-rows', '100', ...url];
  const { child, said } = launch(args);
  await until(() => untilRows(said, 1) || said.err.includes('bf_'), 'the backfill');
  expect(await within(60, stop(child), 'the end')).toBe(interrupted);
  const [, id = ''] = /^To go on: millrace backfill resume (bf_[0-9a-f]{32})$/m.exec(said.err) ?? [];
  expect((await millrace(['backfill', 'get', id, ...url])).out).toMatch(new RegExp(`  ${id}  paused  digits-deep@1  `));
  expect(await millrace(['backfill', 'pause', id, ...url])).toMatchObject({ code: 1, err: expect.stringContaining('that is paused cannot be asked to pause') });
  expect(await millrace(['backfill', 'resume', id, ...url])).toMatchObject({ code: 0, out: expect.stringContaining(id) });

  const again = await within(100, millrace(args), 'the end');
  expect(again).toMatchObject({ code: 0, err: expect.stringContaining(`${id}, which goes on at`) });
  await expectDigits(await lines(file('more.ndjson')), 'digits-deep', 20);

  const another = launch([...args, '--overwrite']);
  const ended = once(another.child, 'close');
  await until(() => another.said.err.includes('bf_'), 'another');
  const [canceled = ''] = /bf_[0-9a-f]{32}/.exec(another.said.err) ?? [];
  expect((await millrace(['backfill', 'cancel', canceled, ...url])).code).toBe(0);
  await within(60, ended, 'the end');
  expect([another.child.exitCode, another.said.err]).toEqual([1, expect.stringContaining('The backfill is canceled')]);
});

test('a place that is not allowed is refused', async () => {
  const { code, err } = await millrace(['backfill', '--model', 'digits', '--input', '/etc/passwd', '--format', 'csv', '--output', path.join(rig.folder, 'x.csv'), '--url', rig.system.url]);
  expect([code, err]).toEqual([1, expect.stringMatching(/\n {2}#\/input\/uri: \/etc\/passwd lies outside the places/)]);
});

test.each(['', '--model digits --input in.csv', '--model digits --input in.csv --output out.csv --map image', '--model digits --input in.csv --output out.csv --max-error-ratio 2', 'get', 'list --status done'])('wrong usage exits with 2: %s', async (line) => {
  const { code, out, err } = await millrace(['backfill', ...line.split(' ').filter(Boolean)]);
  expect([code, out, err]).toEqual([2, '', expect.stringMatching(/^error: /)]);
});

test('an API that cannot be reached exits with 3', async () => {
  const { code, err } = await millrace(['backfill', 'list', '--url', 'http://127.0.0.1:9']);
  expect([code, err]).toEqual([3, expect.stringContaining('cannot be reached')]);
});
