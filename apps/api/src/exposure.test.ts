import { expect, test } from 'vitest';
import { isExposed } from './exposure.ts';

test.each(['127.0.0.1', '127.8.15.47', '::1', 'localhost', '::ffff:127.0.0.1'])('%s is this machine alone', async (host) => {
  expect(await isExposed(host)).toBe(false);
});

test.each(['0.0.0.0', '::', '10.0.0.7', '192.168.1.1', '128.0.0.1', '::ffff:10.0.0.7', 'fe80::1'])('others reach %s', async (host) => {
  expect(await isExposed(host)).toBe(true);
});

test('a name that nobody knows is no address', async () => {
  await expect(isExposed('no-such-host.invalid')).rejects.toThrow('no-such-host.invalid');
});
