import type { ModelVersion } from '@millrace/models';
import { MillraceError } from '@millrace/protocol';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SessionCache } from './session-cache.ts';
import type { CachedSession } from './session-cache.ts';

const versionOf = (name: string, sizeBytes: number): ModelVersion => ({
  id: { name, version: 1, digest: '' }, path: '', sizeBytes, batched: true, signature: { inputs: [], outputs: [] },
  manifest: {
    pool: 'default', batching: { maxRows: 1, maxDelayMs: 0 }, instances: 1, threads: 1, executionProviders: [], labels: [], aliases: {},
  },
});

const [a, b, c] = [versionOf('a', 4), versionOf('b', 4), versionOf('c', 4)];

/** A cache of 10 bytes on two threads, with a log of what it loads and releases. */
function recorded() {
  const log: string[] = [];
  const cache = new SessionCache({
    threads: 2,
    maxBytes: 10,
    load: async ({ version }) => { log.push(`load ${version.id.name}`); },
    release: async ({ version }) => { log.push(`release ${version.id.name}`); },
    onAdmitted: () => log.push('admitted'),
  });
  const touch = async (version: ModelVersion): Promise<void> => {
    const session = cache.use(version, 0);
    await session.loaded;
    cache.done(session);
  };
  return { cache, log, touch };
}

describe('SessionCache', () => {
  test('releases the least recently used idle session, and only where it must', async () => {
    const { cache, log, touch } = recorded();
    for (const version of [a, b, a, c, a]) await touch(version);
    expect(log).toEqual(['load a', 'load b', 'release b', 'admitted', 'load c']);
    expect(cache.bytes).toBe(8);
  });

  test('one load for all who want the session', async () => {
    const { cache, log } = recorded();
    const sessions = [cache.use(a, 0), cache.use(a, 0)];
    await Promise.all(sessions.map(({ loaded }) => loaded));
    expect(log).toEqual(['load a']);
    expect(cache.has(sessions[0]?.key as string, 1)).toBe(false);
  });

  test('a load waits, and is counted, while every session is in use', async () => {
    const { cache, log } = recorded();
    const [first, second] = [cache.use(a, 0), cache.use(b, 1)];
    await Promise.all([first.loaded, second.loaded]);
    const third = cache.use(c, 0);
    expect(cache.waiting).toBe(1);
    cache.done(second);
    await third.loaded;
    expect(log).toEqual(['load a', 'load b', 'release b', 'admitted', 'load c']);
    expect(cache.waiting).toBe(0);
  });

  test('refuses what can never fit', () => {
    const { cache } = recorded();
    expect(() => cache.use(versionOf('huge', 11), 0)).toThrow(expect.objectContaining({ code: 'model-unavailable' }));
    expect(cache.bytes).toBe(0);
  });

  test('frees a version that is gone when it falls idle', async () => {
    const { cache, log, touch } = recorded();
    await touch(a);
    const used = cache.use(b, 1);
    await used.loaded;
    cache.retire(a);
    cache.retire(b);
    expect(log).toEqual(['load a', 'load b', 'release a']);
    cache.done(used);
    expect(log).toContain('release b');
  });

  test('a failed load leaves nothing behind', async () => {
    let failures = 1;
    const cache = new SessionCache({
      threads: 1, maxBytes: 10, release: async () => undefined, onAdmitted: () => undefined,
      load: async () => { if (failures-- > 0) throw new MillraceError('model-unavailable', 'no'); },
    });
    const failed = cache.use(a, 0);
    await expect(failed.loaded).rejects.toThrow('no');
    cache.done(failed);
    expect(cache.bytes).toBe(0);
    await cache.use(a, 0).loaded;
    expect(cache.bytes).toBe(4);
  });

  test('whatever comes in whatever order, it keeps the bound, releases nothing in use, and everyone is served', async () => {
    const use = fc.record({ size: fc.integer({ min: 1, max: 10 }), thread: fc.nat(1), fails: fc.boolean(), retire: fc.boolean() });
    await fc.assert(fc.asyncProperty(fc.array(use, { maxLength: 12 }), fc.scheduler(), async (uses, scheduler) => {
      const inUse = new Set<CachedSession>();
      const failing = new Set(uses.filter(({ fails }) => fails).map(({ size }) => size));
      const cache = new SessionCache({
        threads: 2, maxBytes: 10, onAdmitted: () => undefined,
        load: async ({ version }) => {
          await scheduler.schedule(Promise.resolve());
          expect(cache.bytes).toBeLessThanOrEqual(10);
          if (failing.has(version.sizeBytes)) throw new MillraceError('model-unavailable', 'no');
        },
        release: async (session) => {
          expect(inUse.has(session)).toBe(false);
          await scheduler.schedule(Promise.resolve());
        },
      });
      const served = uses.map(async ({ size, thread, retire }) => {
        await scheduler.schedule(Promise.resolve());
        const session = cache.use(versionOf(`m${size}`, size), thread);
        await session.loaded.catch(() => undefined);
        inUse.add(session);
        await scheduler.schedule(Promise.resolve());
        inUse.delete(session);
        cache.done(session);
        if (retire) cache.retire(session.version);
      });
      await scheduler.waitFor(Promise.all(served));
      await scheduler.waitIdle();
      expect(cache.waiting).toBe(0);
      expect(cache.bytes).toBe([0, 1].reduce((sum, thread) => sum + bytesOn(cache, thread), 0));
    }));
  });
});

function bytesOn(cache: SessionCache, thread: number): number {
  return Array.from({ length: 10 }, (_, index) => index + 1).reduce((sum, size) => sum + (cache.has(`m${size}@1#`, thread) ? size : 0), 0);
}
