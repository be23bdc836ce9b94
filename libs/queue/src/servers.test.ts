import { expect, test } from 'vitest';
import { judge } from './servers.ts';

const good = { redis_version: '7.2.4', maxmemory: '1000', maxmemory_policy: 'noeviction', aof_enabled: '1' };

function judged(facts: Partial<Record<keyof typeof good, string | undefined>>): string[] {
  const info = Object.entries({ ...good, ...facts }).flatMap(([name, value]) => (value === undefined ? [] : [`${name}:${value}\r\n`]));
  return judge('here:6379', info.join(''));
}

test('a server that is set up as it should be has no weakness', () => {
  expect(judged({})).toEqual([]);
  expect(judged({ redis_version: '6.2.0' })).toEqual([]);
});

test('a policy that evicts does no harm where memory has no limit', () => {
  expect(judged({ maxmemory: '0', maxmemory_policy: 'allkeys-lru' })).toEqual([]);
});

test('what may lose accepted work is told', () => {
  expect(judged({ aof_enabled: '0' })).toEqual([expect.stringContaining('append-only file is off')]);
  expect(judged({ maxmemory_policy: undefined })).toEqual([expect.stringContaining('does not tell its maxmemory-policy')]);
});

test.each([
  [{ redis_version: '6.0.16' }, /version 6\.0, and 6\.2 is the oldest/],
  [{ redis_version: undefined }, /version 0\.0/],
  [{ maxmemory_policy: 'volatile-ttl' }, /is volatile-ttl and must be noeviction/],
])('%o is refused', (facts, says) => {
  expect(() => judged(facts)).toThrow(says);
});
