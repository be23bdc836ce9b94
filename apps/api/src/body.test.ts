import { expect, test } from 'vitest';
import { parseBody } from './body.ts';

test('keeps the digits of integers that a double cannot hold, and everything else as it is', () => {
  expect(parseBody('{"a":[9007199254740993,-9223372036854775808,1],"b":0.30000000000000004,"c":1234567890123456.5,"d":"9007199254740993"}'))
    .toEqual({ a: [9_007_199_254_740_993n, -9_223_372_036_854_775_808n, 1], b: 0.30000000000000004, c: 1_234_567_890_123_456.5, d: '9007199254740993' });
  expect(parseBody('')).toBeUndefined();
});

test.each([
  ['NaN', '{"inputs":[[NaN]]}', 'JSON has no NaN or Infinity'],
  ['half a body', '{"inputs":[[1,', 'The body is not JSON'],
  ['deep nesting', '['.repeat(100_000), 'nested more than 100 levels'],
  ['a poisoned prototype', '{"__proto__":{"admin":true}}', 'The body is not JSON'],
  ['a poisoned constructor', '{"constructor":{"prototype":{"admin":true}}}', 'The body is not JSON'],
])('%s is refused', (_name, text, detail) => {
  expect(() => parseBody(text)).toThrowError(expect.objectContaining({ code: 'malformed-request', message: expect.stringContaining(detail) }) as Error);
});

test('brackets inside strings are no nesting', () => {
  const text = JSON.stringify({ metadata: { note: '[{"'.repeat(200) } });
  expect(parseBody(text)).toEqual(JSON.parse(text));
});
