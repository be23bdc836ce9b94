import Type from 'typebox';
import { expect, test } from 'vitest';
import { readConfig } from './config.ts';

const schema = Type.Object({
  port: Type.Integer({ default: 8080, minimum: 0, maximum: 65_535, description: 'Port to listen on' }),
  scanSeconds: Type.Number({ default: 2, minimum: 0.1 }),
  level: Type.Enum(['info', 'warn'], { default: 'info' }),
  redisUrl: Type.String({ env: 'REDIS_URL', secret: true, default: 'redis://localhost', pattern: '^redis://' }),
  caFile: Type.Optional(Type.String()),
});

test('reads variables by their names, converts them, and fills in defaults', () => {
  expect(readConfig(schema, { MILLRACE_PORT: '0', MILLRACE_SCAN_SECONDS: '0.5', REDIS_URL: 'redis://elsewhere', MILLRACE_LEVEL: '' }))
    .toEqual({ port: 0, scanSeconds: 0.5, level: 'info', redisUrl: 'redis://elsewhere' });
});

test('reports every fault at once, as expected and got, and keeps secrets to itself', () => {
  const read = () => readConfig(schema, { MILLRACE_PORT: 'many', MILLRACE_SCAN_SECONDS: '0', MILLRACE_LEVEL: 'loud', REDIS_URL: 'password' });
  expect(read).toThrow([
    'The settings cannot be used:',
    '  MILLRACE_PORT: expected a whole number, at least 0, at most 65535 (Port to listen on), got "many"',
    '  MILLRACE_SCAN_SECONDS: expected a number, at least 0.1, got 0',
    '  MILLRACE_LEVEL: expected one of info, warn, got "loud"',
    '  REDIS_URL: expected a string, matching ^redis://, got something else',
  ].join('\n'));
});
