import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { findRedisServer } from '../../bin/redis-server.mjs';
import { startRedis, type RedisOptions, type RunningRedis } from './redis.ts';
import { exchange } from './resp.ts';

const binary = findRedisServer();

describe('the embedded Redis', () => {
  const cleanups: (() => unknown)[] = [];
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).toReversed()) await cleanup();
  });

  async function start(options: Partial<RedisOptions> = {}): Promise<RunningRedis> {
    const redis = await startRedis({ binary: binary ?? '', ...options });
    cleanups.push(() => redis.stop());
    return redis;
  }

  function freshFolder(): string {
    const folder = mkdtempSync(path.join(tmpdir(), 'millrace-test-'));
    cleanups.push(() => rmSync(folder, { recursive: true, force: true }));
    return folder;
  }

  test('keeps what was written in its data folder across a restart', async () => {
    const dataDir = path.join(freshFolder(), 'data');
    const first = await start({ dataDir });
    expect(await exchange(socketOf(first), ['SET', 'wheel', 'turning'])).toBe('+OK\r\n');
    await first.stop();

    const second = await start({ dataDir });
    expect(await exchange(socketOf(second), ['GET', 'wheel'])).toBe('$7\r\nturning\r\n');
  });

  test('refuses a data folder that another one uses, and names the process', async () => {
    const dataDir = freshFolder();
    const first = await start({ dataDir });
    await expect(start({ dataDir })).rejects.toThrow(`${dataDir} is in use by process ${first.pid}`);
    expect(await exchange(socketOf(first), ['PING'])).toBe('+PONG\r\n');
  });

  test('keeps nothing without a data folder, and never evicts', async () => {
    const redis = await start();
    expect(await exchange(socketOf(redis), ['INFO', 'persistence'])).toContain('aof_enabled:0');
    expect(await exchange(socketOf(redis), ['INFO', 'memory'])).toContain('maxmemory_policy:noeviction');
  });

  test('waits for as long as the server loads its file', async () => {
    const dataDir = freshFolder();
    const first = await start({ dataDir });
    await exchange(socketOf(first), ['EVAL', "for i = 1, 10000 do redis.call('SET', 'key' .. i, i) end", '0']);
    await first.stop();

    // 10,000 keys of 300 µs are 3 s; at this speed of the clock, longer than any start may take.
    const now = performance.now.bind(performance);
    const clock = vi.spyOn(performance, 'now').mockImplementation(() => 15 * now());
    cleanups.push(() => clock.mockRestore());
    const startedAt = performance.now();
    const onLoading = vi.fn<() => void>();
    const second = await start({ dataDir, args: ['--key-load-delay', '300'], onLoading });
    expect(performance.now() - startedAt).toBeGreaterThan(30_000);
    expect(onLoading).toHaveBeenCalledTimes(1);
    expect(await exchange(socketOf(second), ['GET', 'key10000'])).toBe('$5\r\n10000\r\n');
  });

  test('tells why the server ended at its start', async () => {
    await expect(start({ args: ['--no-such-setting', '1'] })).rejects.toThrow(/ended at its start[^]*no-such-setting/);
  });

  test('gives up on an abort', async () => {
    await expect(start({ signal: AbortSignal.abort(new Error('not wanted')) })).rejects.toThrow('not wanted');
  });

  test('stops once, however often it is told to', async () => {
    const redis = await start();
    await Promise.all([redis.stop(), redis.stop()]);
    expect(() => process.kill(redis.pid, 0)).toThrow('ESRCH');
  });

  test.runIf(process.platform === 'linux')('frees its data folder when its owner is killed', async () => {
    const dataDir = freshFolder();
    const source = new URL('redis.ts', import.meta.url).href;
    const options = JSON.stringify({ binary, dataDir });
    const program = `import { startRedis } from '${source}'; console.log((await startRedis(${options})).pid);`;
    const owner = spawn(process.execPath, ['--input-type=module', '--eval', program]);
    const [pid] = await once(createInterface({ input: owner.stdout }), 'line');
    owner.kill('SIGKILL');

    const next = await vi.waitFor(() => start({ dataDir }), { timeout: 20_000 });
    expect(next.pid).not.toBe(Number(pid));
  });
});

function socketOf(redis: RunningRedis): string {
  return new URL(redis.url).pathname;
}
