import { chmod, symlink, mkdir, utimes } from 'node:fs/promises';
import type { MillraceError, Signature } from '@millrace/protocol';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { Places } from './places.ts';
import { type TrialOptions, Trial } from './trial.ts';
import type { BackfillData } from './job.ts';

let trial: Trial;
beforeEach(async () => {
  trial = await Trial.open();
});
afterEach(() => trial.close());

/** The failure of a check: its code, its text, the pointers of its faults. */
async function failure(data: Partial<BackfillData> & { readonly input: BackfillData['input'] }, options?: TrialOptions): Promise<{ code: string; text: string; pointers: string[] }> {
  const error = await trial.check({ output: { uri: trial.path('out.csv') }, ...data }, options).then(() => undefined, (reason: unknown) => reason as MillraceError);
  if (!error) throw new Error('nothing was wrong');
  return { code: error.code, text: error.message.replaceAll(trial.folder, ''), pointers: error.faults.map(({ pointer }) => pointer) };
}

const two: Signature = {
  inputs: [{ name: 'x', dtype: 'float32', shape: [-1, 4] }, { name: 'y', dtype: 'int64', shape: [-1] }],
  outputs: [{ name: 'z', dtype: 'float32', shape: [-1, 'k'] }],
};

test('tells all faults of a mapping at once', async () => {
  const input = await trial.put('in.csv', 'a,b,y\n1,2,3\n');
  const found = await failure({ input: { uri: input }, mapping: { x: ['a', 'b', 'c'], w: 'a' }, id_column: 'd', carry: ['a', 'e'], output: { uri: trial.path('out.csv'), vectors: 'expanded' } }, { signature: two });
  expect(found).toEqual({ code: 'invalid-backfill', text: expect.stringContaining('6 things do not fit') as string, pointers: ['#/mapping/x', '#/mapping/w', '#/output/vectors', '#/id_column', '#/carry/1', '#/mapping/x/2'] });
  expect(await failure({ input: { uri: input }, mapping: { x: ['a', 'b', 'y'] } }, { signature: two })).toMatchObject({ text: '"x" has shape [any, 4]: expected 4 columns, got 3' });
});

test('refuses Parquet columns of the wrong type or length', async () => {
  const input = await trial.parquet('in.parquet', `SELECT [1.5, 2]::FLOAT[2] AS x, 1.5 AS y, 'text' AS s`);
  expect(await failure({ input: { uri: input }, mapping: { x: 's', y: 'y' } }, { signature: two })).toMatchObject({ pointers: ['#/mapping/x', '#/mapping/x', '#/mapping/y'] });
  expect(await failure({ input: { uri: input }, mapping: { x: ['x', 'x'], y: 'y' } }, { signature: two })).toMatchObject({ code: 'invalid-backfill' });
});

test('names the place of what is not there, empty or unreadable', async () => {
  expect(await failure({ input: { uri: trial.path('no-*.csv') } })).toEqual({ code: 'invalid-backfill', text: '/no-*.csv: there is no such file', pointers: ['#/input/uri'] });
  await trial.put('a.csv', 'a,b\n1,2\n');
  await trial.put('b.csv', '');
  expect(await failure({ input: { uri: trial.path('*.csv') } })).toMatchObject({ code: 'unreadable-input', text: '/b.csv is empty' });
  await trial.put('only.csv', 'a,b\n\n');
  expect(await failure({ input: { uri: trial.path('only.csv') } })).toMatchObject({ code: 'unreadable-input', text: '/only.csv has no rows' });
  await trial.put('bad.parquet', 'PAR1 no');
  expect(await failure({ input: { uri: trial.path('bad.parquet') } })).toMatchObject({ code: 'unreadable-input', text: expect.stringContaining('/bad.parquet: ') as string });
  await trial.put('bad.csv.gz', 'a,b\n1,2\n');
  expect(await failure({ input: { uri: trial.path('bad.csv.gz') } })).toMatchObject({ code: 'unreadable-input', text: '/bad.csv.gz: incorrect header check' });
  await trial.put('wide.csv', Buffer.from('\ufeffa,b\n1,2\n', 'utf16le'));
  expect(await failure({ input: { uri: trial.path('wide.csv') }, mapping: { x: ['a', 'b'] } })).toMatchObject({ code: 'unreadable-input', text: '/wide.csv begins like UTF-16: say so by "encoding": "utf-16le"' });
  await trial.parquet('none.parquet', 'SELECT 1.0::FLOAT AS a, 2.0::FLOAT AS b WHERE false');
  expect(await failure({ input: { uri: trial.path('none.parquet') } })).toMatchObject({ code: 'unreadable-input', text: '/none.parquet has no rows' });
});

test('refuses a description under which no row can be taken', async () => {
  const input = await trial.put('in.csv', 'a;b\n1;2\n');
  expect(await failure({ input: { uri: input } })).toMatchObject({ code: 'invalid-backfill', pointers: ['#/input'] });
  const dates = await trial.put('dates.csv', 'a,b\n2026-01-01,1\n');
  expect(await failure({ input: { uri: dates } })).toMatchObject({ text: expect.stringContaining('none of the first 1 rows can be taken: column "a"') as string });
});

test('refuses an output that is there, unless it may be replaced', async () => {
  const input = await trial.put('in.csv', 'a,b\n1,2\n');
  await trial.put('out.csv', 'mine');
  expect(await failure({ input: { uri: input } })).toMatchObject({ code: 'invalid-backfill', pointers: ['#/output/uri'] });
  await trial.run({ input: { uri: input }, output: { uri: trial.path('out.csv'), overwrite: true } });
  expect(await trial.read('out.csv')).toBe('row,sum,same_0,same_1\n1,3.0,1.0,2.0\n');
  expect(await failure({ input: { uri: input }, output: { uri: trial.path('new') } })).toMatchObject({ pointers: ['#/output/format'] });
  expect(await failure({ input: { uri: input }, output: { uri: trial.path('new.csv') }, carry: ['a', 'b'] }, { signature: { ...two, inputs: [{ name: 'x', dtype: 'float32', shape: [-1, 2] }], outputs: [{ name: 'A', dtype: 'float32', shape: [-1] }] } })).toMatchObject({ code: 'invalid-backfill' });
});

test('nothing outside the allowed places is read or written', async () => {
  const inside = trial.path('inside');
  await mkdir(inside);
  await mkdir(trial.path('inside-not'));
  await trial.put('secret.csv', 'a,b\n1,2\n');
  await trial.put('inside-not/x.csv', 'a,b\n1,2\n');
  await trial.put('inside/in.csv', 'a,b\n1,2\n');
  await symlink(trial.path('secret.csv'), trial.path('inside/link.csv'));
  await symlink(trial.folder, trial.path('inside/up'));
  const places = new Places({ inputs: [inside, 's3://bucket/in'], outputs: [inside, 's3://bucket/out'] });
  const code = async (input: string, output: string): Promise<string> =>
    trial.check({ input: { uri: input }, output: { uri: output } }, { places }).then(() => 'allowed', (error: unknown) => (error as MillraceError).code);
  const good = `${inside}/in.csv`;
  expect(await code(good, `${inside}/out.csv`)).toBe('allowed');
  expect(await code(`file://${good}`, `${inside}/out.csv`)).toBe('allowed');
  for (const input of [`${trial.folder}/secret.csv`, `${inside}/../secret.csv`, `${inside}/up/secret.csv`, `${inside}/link.csv`, `${inside}/*.csv`, `${inside}/up/*.csv`, `${inside}/{.,..}/secret.csv`, `${inside}/{x,..}/nothing*`, `${inside}/u[p]/secret.csv`, `${inside}-not/x.csv`, '/etc/passwd', '/proc/self/environ', 's3://bucket/other.csv', 's3://bucket/in-not/x.csv', 's3://other/in/x.csv']) {
    expect([input, await code(input, `${inside}/out.csv`)]).toEqual([input, 'place-not-allowed']);
  }
  // What a glob finds outside is not told: neither that it is there nor its name.
  for (const input of [`${inside}/[.][.]/secret*`, `${inside}/{.,x}{.,y}/secret*`, `${inside}/[.][.]/nothing*`]) {
    expect(await failure({ input: { uri: input }, output: { uri: `${inside}/out.csv` } }, { places })).toMatchObject({ code: 'invalid-backfill', text: `${input.replace(trial.folder, '')}: there is no such file` });
  }
  expect(await failure({ input: { uri: `${inside}/up/sec*.csv` }, output: { uri: `${inside}/out.csv` } }, { places })).toMatchObject({ text: '/inside/up/sec*.csv lies outside the places that are allowed for it' });
  for (const output of [`${trial.folder}/out.csv`, `${inside}/../out.csv`, `${inside}/up/out.csv`, `${inside}-not/out.csv`, 's3://bucket/out.csv', 's3://bucket/in/out.csv']) {
    expect([output, await code(good, output)]).toEqual([output, 'place-not-allowed']);
  }
  for (const input of ['s3://bucket/in/../out.csv', 'http://localhost/in.csv', `${inside}/in\0.csv`]) expect([input, await code(input, `${inside}/out.csv`)]).toEqual([input, 'invalid-backfill']);
});

test('a file that was changed after the check is refused', async () => {
  const input = await trial.put('in.csv', 'a,b\n1,2\n');
  const plan = await trial.check({ input: { uri: input }, output: { uri: trial.path('out.csv') } });
  await utimes(input, 1, 1);
  await expect(Array.fromAsync(trial.chunks(plan))).rejects.toMatchObject({ code: 'input-changed', message: `${input} was changed` });
  await chmod(input, 0o600);
});

test('a chunk has as many rows as fit into its bytes, with what comes of them', async () => {
  await trial.put('in.csv', 'a,b\n1,2\n');
  const rows = async (width: number) => (await trial.check({ input: { uri: trial.path('in.csv') }, output: { uri: trial.path('wide.csv') } }, {
    signature: { inputs: [{ name: 'x', dtype: 'float32', shape: [-1, 2] }], outputs: [{ name: 'y', dtype: 'float32', shape: [-1, width] }] }, limits: { bytes: 1_000_000 },
  })).limits.rows;
  expect([await rows(1), await rows(48), await rows(9998)]).toEqual([16_384, 5000, 25]);
});
