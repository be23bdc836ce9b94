import { expect, test } from 'vitest';
import { defaultManifest, readManifest } from './manifest.ts';

test('a manifest that says nothing has the defaults', () => {
  expect(readManifest('')).toEqual(defaultManifest);
  expect(readManifest('# nothing yet\n')).toEqual(defaultManifest);
});

test('reads every key', () => {
  expect(readManifest(`
    pool: gpu
    batching: { max_rows: 128, max_delay_ms: 5 }
    instances: 2
    threads: 4
    execution_providers: [cuda, cpu]
    labels: [setosa, versicolor]
    aliases: { champion: 1, next-one: 12 }
  `)).toEqual({
    pool: 'gpu',
    batching: { maxRows: 128, maxDelayMs: 5 },
    instances: 2,
    threads: 4,
    executionProviders: ['cuda', 'cpu'],
    labels: ['setosa', 'versicolor'],
    aliases: { champion: 1, 'next-one': 12 },
  });
});

test('half of batching keeps the default of the other half', () => {
  expect(readManifest('batching: { max_delay_ms: 5 }').batching).toEqual({ maxRows: 64, maxDelayMs: 5 });
});

test('labels are what the author wrote, not what YAML makes of it', () => {
  expect(readManifest('labels: [0, 007, 1.0, True, no, 0x1F, "1"]').labels).toEqual(['0', '007', '1.0', 'True', 'no', '0x1F', '1']);
});

test('says all faults at once: where, expected, got', () => {
  const text = 'pool: GPU\nbatching: { max_rows: 0, rows: 1 }\nthreads: 0.5\nlabels: [a, null]\naliases: { 1st: 1, ok: x }\nmax: 1';
  expect(() => readManifest(text)).toThrow([
    'model.yaml is wrong: pool: expected a name of at most 31 letters a-z and digits, a letter first, and not backfills or deliveries, got the string "GPU"',
    'batching.rows: unknown key, expected a map of max_rows and max_delay_ms',
    'batching.max_rows: expected a whole number from 1 to 65536, got 0',
    'threads: expected a whole number from 1 to 256, got 0.5',
    'labels.1: expected a text of at most 256 characters, got null',
    'aliases.1st: unknown key, expected a map of aliases (a-z, digits, single dots, _ and -, a letter first) to version numbers',
    'aliases.ok: expected a version number, got the string "x"',
    'max: unknown key, expected a map of pool, batching, instances, threads, execution_providers, labels, aliases',
  ].join('; '));
});

test.each([
  ['a list', '- pool', /expected a map of pool, .* got an array of 1/],
  ['a text', 'pool', /got the string "pool"/],
  ['two documents', 'pool: a\n---\npool: b', /multiple documents/],
  ['a key given twice', 'pool: a\npool: b', /unique at line 2/],
  ['broken YAML', 'labels: [a', /end with a \] at line 1/],
  ['a tag', 'pool: !secret a', /Unresolved tag/],
  ['an alias that no reference can name', 'aliases: { a..b: 1 }', /aliases\.a\.\.b: unknown key/],
  ['a key that objects already have', '__proto__: { pool: a }', /__proto__: unknown key/],
  ['a pool whose keys would be those of something else', 'pool: deliveries', /not backfills or deliveries, got the string "deliveries"/],
  ['an execution provider twice', 'execution_providers: [cpu, cpu]', /none twice/],
  ['an anchor that is not there', 'labels: [*a]', /Unresolved alias/],
  ['a document inside itself', 'labels: &a [*a]', /labels\.0: expected a text/],
])('refuses %s', (_, text, reason) => {
  expect(() => readManifest(text)).toThrow(reason);
});

test('refuses a document that multiplies itself by anchors', () => {
  const bomb = ['a: &a0 [x, x, x, x, x, x, x, x, x]'];
  for (let level = 1; level < 12; level++) bomb.push(`a${level}: &a${level} [${Array(9).fill(`*a${level - 1}`).join(', ')}]`);
  expect(() => readManifest(bomb.join('\n'))).toThrow(/Excessive alias count/);
});

test('refuses brackets without end, in few words', () => {
  const reading = () => readManifest('['.repeat(50_000));
  expect(reading).toThrow(/^model\.yaml is wrong: .{1,3000}$/s);
});
