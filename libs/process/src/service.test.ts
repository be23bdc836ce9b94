import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Service, type ServiceOptions } from './service.ts';

interface Line {
  readonly msg?: unknown;
  readonly reason?: unknown;
  readonly delayMs?: unknown;
}

/** A service whose script is given; `next` resolves with its next line of this message. */
function serviceOf(script: string, more: Partial<ServiceOptions> = {}) {
  const waiting = new Map<unknown, (line: Line) => void>();
  const onLog = (_service: string, line: Line) => waiting.get(line.msg)?.(line);
  const service = new Service({ name: 'it', args: ['-e', script], env: process.env, readyMessage: 'ready', onLog, ...more });
  onTestFinished(() => service.stop());
  const next = async (msg: string) => new Promise<Line>((resolve) => { waiting.set(msg, resolve); });
  return { service, next };
}

const lives = 'console.log(JSON.stringify({ msg: "ready", level: "info", port: 7 })); process.on("disconnect", () => process.exit()); process.on("SIGTERM", () => process.exit());';
const again = 'ended unexpectedly, starting it again';

test('start gives the fields of the line that says it is ready, and stop ends the process', async () => {
  const { service } = serviceOf(lives);
  expect(await service.start()).toMatchObject({ port: 7 });
  expect(service.state).toBe('ready');
  const ended = service.stop();
  expect(service.state).toBe('stopping');
  await Promise.all([ended, service.stop()]);
  expect(service.state).toBe('stopped');
  expect(() => process.kill(service.pid as number, 0)).toThrow('ESRCH');
});

test('start rejects with the last words of a process that ends first, which is not started again', async () => {
  const { service } = serviceOf('console.error("no such thing"); process.exitCode = 3;');
  await expect(service.start()).rejects.toThrow('it ended before it was ready (3): no such thing');
  await service.stop();
  expect(service.state).toBe('stopped');
});

test('one that was killed is started again, after a short while', async () => {
  const { service, next } = serviceOf(lives);
  await service.start();
  const [first, ended] = [service.pid as number, next(again)];
  process.kill(first, 'SIGKILL');
  const { reason, delayMs } = await ended;
  expect([reason, service.state]).toEqual(['SIGKILL', 'waiting']);
  expect(delayMs).toBeLessThanOrEqual(1000);
  await next('ready');
  expect([service.state, service.pid === first]).toEqual(['ready', false]);
});

test('one that cannot start is tried again, each time later, until it can', async () => {
  const folder = await mkdtemp(path.join(tmpdir(), 'millrace-service-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = path.join(folder, 'setting');
  const { service, next } = serviceOf(`require("node:fs").readFileSync(${JSON.stringify(file)}); ${lives}`);
  service.keep();
  const delays = [await next(again), await next(again)].map(({ delayMs }) => delayMs as number);
  expect(delays[0]).toBeGreaterThanOrEqual(500);
  expect(delays[1]).toBeGreaterThanOrEqual(1000);
  const ready = next('ready');
  await writeFile(file, '');
  await ready;
  expect(service.state).toBe('ready');
});

test('one that waits to be started again does not, once it is stopped', async () => {
  const { service, next } = serviceOf('process.exitCode = 1;');
  service.keep();
  await next(again);
  await service.stop();
  expect(service.state).toBe('stopped');
});

test('one that does not heed SIGTERM is killed when its time is over', async () => {
  const { service } = serviceOf(`${lives} process.removeAllListeners("SIGTERM"); process.on("SIGTERM", () => {});`, { graceMs: 200 });
  await service.start();
  await service.stop();
  expect(() => process.kill(service.pid as number, 0)).toThrow('ESRCH');
});

/** Says every now and then that it is there. */
const heard = `${lives} process.send('here'); setInterval(() => process.send('here'), 20);`;

test('one that is not heard of any more is killed, and started again', async () => {
  const { service, next } = serviceOf(heard, { hung: { startMs: 60_000, silentMs: 1500 } });
  const ready = next('ready');
  service.keep();
  await ready;
  const [first, killed, ended] = [service.pid as number, next('hangs, killing it'), next(again)];
  process.kill(first, 'SIGSTOP');
  expect((await killed).reason).toBe('not heard of for 1500 ms');
  expect(service.state).toBe('silent');
  expect((await ended).reason).toBe('SIGKILL');
  await next('ready');
  expect([service.state, service.pid === first]).toEqual(['ready', false]);
});

test('one that is never ready is killed, and started again', async () => {
  const { service, next } = serviceOf('setInterval(() => process.send("here"), 20)', { hung: { startMs: 300, silentMs: 1500 } });
  service.keep();
  const ended = next(again);
  expect((await next('hangs, killing it')).reason).toBe('not ready within 300 ms');
  expect((await ended).reason).toBe('SIGKILL');
});

test('one that has yet to load, or whose keeper stood still, is left alone', async () => {
  const still = (ms: number) => `Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ${ms});`;
  const { service, next } = serviceOf(`${still(2000)} ${heard} setInterval(() => console.log('on'), 100)`, { hung: { startMs: 60_000, silentMs: 1500 } });
  const ready = next('ready');
  service.keep();
  await ready;
  const first = service.pid;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2000);
  // For longer than it may be silent.
  for (let line = 0; line < 20; line++) await next('on');
  expect([service.pid, service.state]).toEqual([first, 'ready']);
});
