// Whatever the input is made of, each of its rows has one outcome, in its place.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Trial } from './trial.ts';

let trial: Trial;
beforeAll(async () => {
  trial = await Trial.open();
});
afterAll(() => trial.close());

interface Row {
  readonly text: string;
  /** Whether it belongs into the output. */
  readonly good: boolean;
  /** What stands in the carried column. */
  readonly note: string;
}

interface Outcomes {
  readonly written: readonly (readonly [row: unknown, note: unknown])[];
  readonly failed: readonly (readonly [row: unknown, original: unknown])[];
}

/** Runs an input in chunks of `perChunk` rows. */
async function outcomesOf(name: string, text: string, perChunk: number): Promise<Outcomes> {
  const input = await trial.put(name, text);
  await trial.work.clear();
  const { errors } = await trial.run({ input: { uri: input }, output: { uri: trial.path('out.ndjson'), overwrite: true }, mapping: { x: ['a', 'b'] }, carry: ['note'] }, { limits: { rows: perChunk } });
  return {
    written: (await trial.readJson('out.ndjson')).map(({ row, note }) => [row, note]),
    failed: errors ? (await trial.readJson('out.errors.ndjson')).map(({ row, original }) => [row, original]) : [],
  };
}

function expectedOf(rows: readonly Row[]): Outcomes {
  return {
    written: rows.flatMap(({ good, note }, index) => (good ? [[index + 1, note] as const] : [])),
    failed: rows.flatMap(({ good, text }, index) => (good ? [] : [[index + 1, text] as const])),
  };
}

const quoted = (text: string): string => `"${text.replaceAll('"', '""')}"`;
const number = fc.oneof(fc.float({ noNaN: true, noDefaultInfinity: true }).map(String), fc.constantFrom('1', '-0', ' 2 ', '1e3', '+5', 'nan', 'inf'));
const noNumber = fc.constantFrom('', 'x', '1,5', '1 2', '--1', 'ß', '1\n2', '"', '0x1', 'true');
const notes = fc.string({ unit: fc.constantFrom('a', 'é', '"', ',', '\n', '\r\n', ' ', '😀', '\'', '\\', ';'), minLength: 1, maxLength: 6 }).map((note) => `n${note}n`);
const cell = (value: string) => fc.boolean().map((mustQuote) => (mustQuote || /[",\r\n]/.test(value) ? quoted(value) : value));

const csvRow: fc.Arbitrary<Row> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(number, number, notes).chain(([a, b, note]) => fc.tuple(cell(a), cell(b), cell(note)).map((cells) => ({ text: cells.join(','), good: true, note }))) },
  { weight: 2, arbitrary: fc.tuple(noNumber, number, notes).chain(([a, b, note]) => fc.tuple(cell(a), cell(b), cell(note)).map((cells) => ({ text: cells.join(','), good: false, note }))) },
  { weight: 1, arbitrary: fc.constantFrom('1', '1,2', '1,2,n,4', '1,2,n,4,5', '"1"x,2,n', '1,"2"2,n', '1,2,"n" ', 'only', ',,', '1,2').map((text) => ({ text, good: false, note: '' })) },
);

test('CSV: quoted, broken over lines, ragged, blank lines between, either line end', async () => {
  await fc.assert(fc.asyncProperty(fc.array(fc.tuple(csvRow, fc.constantFrom('\n', '\n', '\r\n', '\n\n', '\r\n\r\n')), { minLength: 2, maxLength: 25 }), fc.integer({ min: 1, max: 9 }), fc.boolean(), async (lines, perChunk, endsInNewline) => {
    const rows = lines.map(([row]) => row);
    fc.pre(rows.some(({ good }) => good));
    const text = `a,b,note\n${lines.map(([row, end], index) => row.text + (index === lines.length - 1 && !endsInNewline ? '' : end)).join('')}`;
    expect(await outcomesOf('in.csv', text, perChunk)).toEqual(expectedOf(rows));
  }), { numRuns: 15 });
}, 120_000);

test('CSV: what a row is does not depend on its neighbours, whatever stands around quotes', async () => {
  const piece = fc.constantFrom('a', '"', '""', ' ', ';', '\'');
  const odd = fc.array(fc.array(piece, { maxLength: 5 }).map((pieces) => `1,2,${pieces.join('')}`), { minLength: 1, maxLength: 4 });
  await fc.assert(fc.asyncProperty(odd, fc.constantFrom(',', ';', ' '), async (lines, delimiter) => {
    const run = async (first: string) => {
      const input = await trial.put('in.csv', `${first}\n1,2,n\n${lines.join('\n')}\n`.replaceAll(',', delimiter));
      await trial.work.clear();
      await trial.run({ input: { uri: input, delimiter, header: false }, output: { uri: trial.path('out.ndjson'), overwrite: true }, mapping: { x: ['column0', 'column1'] }, carry: ['column2'] });
      return (await trial.readJson('out.ndjson')).map(({ column2 }) => column2);
    };
    expect(await run('1,2,n')).toEqual(['n', ...await run('bad,2,n')]);
  }), { numRuns: 30 });
}, 120_000);

const jsonNumber = fc.float({ noNaN: true, noDefaultInfinity: true });
const jsonRow: fc.Arbitrary<Row> = fc.oneof(
  { weight: 6, arbitrary: fc.tuple(jsonNumber, jsonNumber, notes).map(([a, b, note]) => ({ text: JSON.stringify({ note, a, b }), good: true, note })) },
  { weight: 2, arbitrary: fc.tuple(fc.constantFrom<unknown>(null, 'x', {}, [], [1], undefined), notes).map(([a, note]) => ({ text: JSON.stringify({ a, b: 1, note }), good: false, note })) },
  { weight: 1, arbitrary: fc.constantFrom('{"a":1,"b":2', '[1,2]', '7', 'null', '{"a":1,"b":2,"note":"n"} {}', 'text', '{}', '{"a":1 "b":2}', '{"a":1,"b":2,"note":"n","more":"\\ud800"}').map((text) => ({ text, good: false, note: '' })) },
  // No JSON by the letter, but some writers'.
  { weight: 1, arbitrary: fc.constantFrom('{"a":1,"b":2,"note":"n",}', '{"a":nan,"b":-Infinity,"note":"n"}', ' {"a":1,"b":2,"note":"n"} ').map((text) => ({ text, good: true, note: 'n' })) },
);

test('NDJSON: lines that are no JSON, no objects, or lack a member', async () => {
  await fc.assert(fc.asyncProperty(fc.array(jsonRow, { minLength: 2, maxLength: 25 }), fc.integer({ min: 1, max: 9 }), async (rest, perChunk) => {
    const rows = [{ text: '{"a":1,"b":2,"note":"first"}', good: true, note: 'first' }, ...rest];
    expect(await outcomesOf('in.ndjson', rows.map(({ text }) => `${text}\n`).join(''), perChunk)).toEqual(expectedOf(rows));
  }), { numRuns: 15 });
}, 120_000);

test('NDJSON: a line that holds no object is no row of missing numbers', async () => {
  for (const [name, text] of [['alone.ndjson', '{"a":1,"b":2}\n7\nnull\n[]\n'], ['beside.ndjson', '{"a":1,"b":2}\n7\nnull\n[]\n{"a":"x"}\n']] as const) {
    const input = await trial.put(name, text);
    await trial.work.clear();
    await trial.run({ input: { uri: input, missing: 'nan' }, output: { uri: trial.path(`${name}-out.ndjson`) }, mapping: { x: ['a', 'b'] } });
    expect((await trial.readJson(`${name}-out.ndjson`)).map(({ row }) => row)).toEqual([1]);
  }
});

test('a quote behind a space is text: it swallows no rows', async () => {
  const input = await trial.put('spaced.csv', 'note,a,b\nok,1,2\n "fresh",3,4\n "x,5,6\ny,7,8\nz,9,10\n');
  await trial.work.clear();
  await trial.run({ input: { uri: input }, output: { uri: trial.path('spaced-out.ndjson') }, mapping: { x: ['a', 'b'] }, carry: ['note'] });
  expect((await trial.readJson('spaced-out.ndjson')).map(({ note, sum }) => [note, sum])).toEqual([['ok', 3], [' "fresh"', 7], [' "x', 11], ['y', 15], ['z', 19]]);
});

test('bytes that are no UTF-8 fail their row alone, where the field is used', async () => {
  const bytes = Buffer.concat([Buffer.from('a,b,note,unused\n1,2,n1,u\n3,4,'), Buffer.from([0xff, 0xfe]), Buffer.from(',u\n5,6,n3,'), Buffer.from([0xc3]), Buffer.from('\n')]);
  const input = await trial.put('bytes.csv', bytes);
  await trial.work.clear();
  await trial.run({ input: { uri: input }, output: { uri: trial.path('bytes-out.ndjson') }, mapping: { x: ['a', 'b'] }, carry: ['note'] });
  expect((await trial.readJson('bytes-out.ndjson')).map(({ row }) => row)).toEqual([1, 3]);
  expect(await trial.readJson('bytes-out.errors.ndjson')).toMatchObject([{ row: 2, reason: 'column "note" is not UTF-8' }]);
});
