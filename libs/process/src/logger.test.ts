import { expect, test } from 'vitest';
import { printableUrl } from './logger.ts';

test.each([
  ['redis://localhost:6379/1', 'redis://localhost:6379/1'],
  ['redis://me:secret@localhost', 'redis://localhost'],
  ['redis://:secret/@a@localhost', 'redis://localhost'],
  ['redis://localhost?password=secret', 'redis://localhost'],
  ['unix://me:secret@/run/redis.sock', 'unix:///run/redis.sock'],
  ['rediss+cluster://me:secret@a:1,b:2', 'rediss+cluster://a:1,b:2'],
  ['redis+sentinel://me:secret@a:1,b:2/main?sentinel_password=secret', 'redis+sentinel://a:1,b:2/main'],
])('%s is logged as %s', (url, printable) => {
  expect(printableUrl(url)).toBe(printable);
});
