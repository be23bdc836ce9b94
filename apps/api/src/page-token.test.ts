import { expect, test } from 'vitest';
import { readPageToken, writePageToken } from './page-token.ts';

const form = /^([0-9a-f]{32})-(\d{1,2})$/;
const position = '01a206cc777c750cbc258398c22537b7-63';
const filters = ['default', 'failed', undefined];
const refused = expect.objectContaining({ code: 'malformed-request' }) as Error;

test('a token gives back what it was made of, and says nothing by itself', () => {
  const token = writePageToken(position, filters);
  expect([...readPageToken(token, filters, form)]).toEqual([position, '01a206cc777c750cbc258398c22537b7', '63']);
  expect(token).toMatch(/^[\w-]+$/);
});

test.each([
  ['another filter', writePageToken(position, filters), ['default', 'succeeded', undefined]],
  ['another tenant', writePageToken(position, filters), ['other', 'failed', undefined]],
  ['a filter in another place', writePageToken(position, filters), ['default', undefined, 'failed']],
  ['a changed place', writePageToken('01a206cc777c750cbc258398c22537b7-1', filters).replace(/^.{4}/, 'AAAA'), filters],
  ['a position of another list', writePageToken('dlv_01a206cc777c750cbc258398c22537b7', filters), filters],
  ['no token at all', 'nonsense', filters],
  ['a path', '../../etc/passwd', filters],
  ['an empty one', '', filters],
])('%s is refused', (_name, token, itsFilters) => {
  expect(() => readPageToken(token, itsFilters, form)).toThrowError(refused);
});
