import { describe, expect, test } from 'vitest';
import { parseRedisUrl, redisUrlPattern } from './redis-url.ts';

const plain = { tls: false, login: {} };

describe('a Redis URL', () => {
  test.each([
    ['redis://localhost', { ...plain, kind: 'server', server: { host: 'localhost', port: 6379 }, db: 0 }],
    ['rediss://a:1/2', { ...plain, tls: true, kind: 'server', server: { host: 'a', port: 1 }, db: 2 }],
    ['redis://a/?db=3', { ...plain, kind: 'server', server: { host: 'a', port: 6379 }, db: 3 }],
    ['redis://[::1]:7000', { ...plain, kind: 'server', server: { host: '::1', port: 7000 }, db: 0 }],
    ['redis://:secret@a', { tls: false, login: { password: 'secret' }, kind: 'server', server: { host: 'a', port: 6379 }, db: 0 }],
    ['redis://me:p%40s%3As@a', { tls: false, login: { username: 'me', password: 'p@s:s' }, kind: 'server', server: { host: 'a', port: 6379 }, db: 0 }],
    ['unix:///run/redis.sock', { ...plain, kind: 'socket', path: '/run/redis.sock', db: 0 }],
    ['unix://me:secret@/run/redis.sock?db=1', { tls: false, login: { username: 'me', password: 'secret' }, kind: 'socket', path: '/run/redis.sock', db: 1 }],
    ['redis+cluster://me:secret@a:1,b,[::1]:3', {
      tls: false, login: { username: 'me', password: 'secret' }, kind: 'cluster', servers: [{ host: 'a', port: 1 }, { host: 'b', port: 6379 }, { host: '::1', port: 3 }],
    }],
    ['rediss+cluster://a:1/', { tls: true, login: {}, kind: 'cluster', servers: [{ host: 'a', port: 1 }] }],
    ['redis+sentinel://a,b:2/main', {
      ...plain, kind: 'sentinel', servers: [{ host: 'a', port: 26_379 }, { host: 'b', port: 2 }], master: 'main', db: 0, sentinelLogin: {},
    }],
    ['rediss+sentinel://me:x@a:1/main?db=4&sentinel_username=s&sentinel_password=y', {
      tls: true, login: { username: 'me', password: 'x' }, kind: 'sentinel', servers: [{ host: 'a', port: 1 }], master: 'main', db: 4, sentinelLogin: { username: 's', password: 'y' },
    }],
  ])('%s', (url, place) => {
    expect(url).toMatch(new RegExp(redisUrlPattern));
    expect(parseRedisUrl(url)).toEqual(place);
  });

  test.each([
    ['http://secret@a', /not a Redis URL/],
    ['redis://secret@a:b', /port that is no number/],
    ['redis://secret@a/b', /database that is no number/],
    ['redis://secret@a,b', /several servers/],
    ['redis://secret@', /a server that is not <host>/],
    ['redis+cluster://secret@a/1', /a Redis Cluster has only one/],
    ['redis+sentinel://secret@a', /must name the master/],
    ['unix://secret@run/redis.sock', /by its whole path/],
  ])('%s is refused without telling it', (url, says) => {
    expect(() => parseRedisUrl(url)).toThrow(says);
    expect(() => parseRedisUrl(url)).not.toThrow(/secret/);
  });
});
