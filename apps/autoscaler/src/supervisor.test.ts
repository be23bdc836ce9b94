import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Supervisor } from './supervisor.ts';

/** Stands for a worker that drains until there is a file. */
const draining = (file: string) => `
  const { existsSync } = require('node:fs');
  console.log(JSON.stringify({ msg: 'worker is ready', level: 'info', pid: process.pid }));
  setInterval(() => process.send('here'), 20);
  process.on('disconnect', () => process.exit());
  process.on('SIGTERM', () => setInterval(() => { if (existsSync(${JSON.stringify(file)})) process.exit(); }, 10));
`;

async function supervisorOf({ silentMs = 60_000 } = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), 'millrace-supervisor-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = path.join(folder, 'drained');
  const waiting: (() => void)[] = [];
  const started: string[] = [];
  const pids: number[] = [];
  const supervisor = new Supervisor({
    args: ['-e', draining(file)], env: process.env, graceMs: 20_000, hung: { startMs: 60_000, silentMs }, onRestart: () => {},
    onLog: (name, { pid }) => {
      started.push(name);
      pids.push(pid as number);
      waiting.shift()?.();
    },
  });
  onTestFinished(async () => {
    await writeFile(file, '');
    await supervisor.stop();
  });
  /** Resolves when so many more have said that they are ready. */
  const ready = async (count: number) => Promise.all(Array.from({ length: count }, () => new Promise<void>((resolve) => { waiting.push(resolve); })));
  return { supervisor, started, pids, ready, drained: () => writeFile(file, '') };
}

const statesOf = (supervisor: Supervisor) => supervisor.states().map(({ state }) => state);

test('one that drains counts until it is gone, and then another one is started in its place', async () => {
  const { supervisor, started, ready, drained } = await supervisorOf();
  const two = ready(2);
  await supervisor.scale('default', 2);
  expect(statesOf(supervisor)).toEqual(['starting', 'starting']);
  await two;
  expect([started.toSorted(), await supervisor.observed('default')]).toEqual([['default worker 1', 'default worker 2'], 2]);

  await supervisor.scale('default', 1);
  expect([statesOf(supervisor), await supervisor.observed('default')]).toEqual([['ready', 'stopping'], 1]);
  await supervisor.scale('default', 2);
  expect(statesOf(supervisor)).toEqual(['ready', 'stopping']);

  const third = ready(1);
  await drained();
  await third;
  expect([statesOf(supervisor), started.at(-1)]).toEqual([['ready', 'ready'], 'default worker 2']);
});

test('what serves nobody yet goes first, and pools do not touch each other', async () => {
  const { supervisor, ready, drained } = await supervisorOf();
  await drained();
  const one = ready(1);
  await supervisor.scale('default', 1);
  await one;
  await supervisor.scale('gpu', 1);
  await supervisor.scale('default', 2);
  await supervisor.scale('default', 1);
  expect(supervisor.states()).toEqual([{ pool: 'default', state: 'ready' }, { pool: 'default', state: 'stopping' }, { pool: 'gpu', state: 'starting' }]);
  await supervisor.stop();
  expect(supervisor.states()).toEqual([]);
});

test('one that is not heard of goes before one that works', async () => {
  const { supervisor, pids, ready, drained } = await supervisorOf({ silentMs: 6000 });
  for (const count of [1, 2]) {
    const one = ready(1);
    await supervisor.scale('default', count);
    await one;
  }
  const [older, newer] = pids as [number, number];
  process.kill(older, 'SIGSTOP');
  await expect.poll(() => statesOf(supervisor), { timeout: 10_000 }).toEqual(['silent', 'ready']);
  await supervisor.scale('default', 1);
  process.kill(older, 'SIGCONT');
  await drained();
  await expect.poll(() => statesOf(supervisor), { timeout: 10_000 }).toEqual(['ready']);
  expect(() => process.kill(older, 0)).toThrow('ESRCH');
  expect(process.kill(newer, 0)).toBe(true);
});
