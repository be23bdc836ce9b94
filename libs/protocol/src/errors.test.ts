import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { errorCatalogue } from './errors.ts';

const page = readFileSync(new URL('../../../docs/errors.md', import.meta.url), 'utf8');

/** The table's rows: code, status, retryable, title. */
const documented = [...page.matchAll(/^\| `([^`]*)` \| (\d+) \| (yes|no) \| ([^|]*) \| [^|]+ \|$/gm)].map(([, code, status, retryable, title]) =>
  [code, { status: Number(status), retryable: retryable === 'yes', title }] as const);

test('docs/errors.md lists every code with its status, and no other', () => {
  expect(Object.fromEntries(documented)).toEqual(errorCatalogue);
});

test('docs/errors.md has a row for each code, in the order of the catalogue', () => {
  expect(documented.map(([code]) => code)).toEqual(Object.keys(errorCatalogue));
  const rows = page.split('\n').filter((line) => line.startsWith('|'));
  expect(rows).toHaveLength(documented.length + 2);
});
