// Predictions that kill the process that runs them: they cost two workers and fail, and nothing else does.
import { readFile } from 'node:fs/promises';
import type { Prediction } from '@millrace/protocol';
import { expect, onTestFinished, test } from 'vitest';
import { endOf, send, startTestSystem, type TestSystem } from './rig.ts';

const restarted = 'ended unexpectedly, starting it again';

/** Workers that are started again when they die, and say what they run. */
async function started(): Promise<TestSystem> {
  const system = await startTestSystem({ workers: 2, env: { MILLRACE_LOG_LEVEL: 'debug' } });
  onTestFinished(() => system.stop());
  return system;
}

/** Submits them in one batch; their ids. */
async function submit(system: TestSystem, requests: readonly object[]): Promise<string[]> {
  const { body } = await send(system, 'POST', '/api/v1/predictions:batch', { requests });
  return body.results.map(({ prediction }: { prediction: Prediction }) => prediction.id);
}

async function endsOf(system: TestSystem, ids: readonly string[]): Promise<Prediction[]> {
  return Promise.all(ids.map((id) => endOf(system, id)));
}

const deaths = ({ logs }: TestSystem) => logs.filter(({ msg }) => msg === restarted).length;

/** How often each prediction was started. */
function runsOf({ logs }: TestSystem): Map<string, number> {
  const runs = new Map<string, number>();
  for (const { msg, pieces } of logs) {
    if (msg === 'micro-batch runs') for (const id of pieces as string[]) runs.set(id, (runs.get(id) ?? 0) + 1);
  }
  return runs;
}

test('a prediction that crashes the native side fails after its second kill, and its bundle-mates and batch-mates succeed', async () => {
  const system = await started();
  const values = Array.from({ length: 40 }, (_, index) => (index === 7 || index === 21 ? 13 : 100 + index));
  const ids = await submit(system, values.map((value) => ({ model: 'crashes-on-thirteen', inputs: [[value]] })));
  const ends = await endsOf(system, ids);
  expect(ends.map(({ status, outputs, error }) => [status, outputs, error?.type])).toEqual(values.map((value) => (value === 13
    ? ['failed', null, '/problems/worker-crashed']
    : ['succeeded', { y: [[Math.trunc(value / 2)]] }, undefined])));
  // Together once, and each of the two alone.
  expect(deaths(system)).toBe(3);
  // A process that dies may take its last line with it, so a start can be missing here.
  const runs = runsOf(system);
  expect(Math.max(...ids.map((id) => runs.get(id) ?? 0))).toBeLessThanOrEqual(2);
  expect((await endsOf(system, ids)).map((end) => JSON.stringify(end))).toEqual(ends.map((end) => JSON.stringify(end)));
});

test('a prediction that eats all memory fails after its second kill, and all others succeed', async () => {
  const system = await started();
  const hunters = huntMemory(system, 1_200);
  onTestFinished(hunters.stop);
  const mebibytes = [1, 2, 100_000, 3];
  const greedy = await submit(system, mebibytes.map((count) => ({ model: 'eats-memory', inputs: [[count]] })));
  const others = await submit(system, Array.from({ length: 100 }, () => ({ model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] })));
  const ends = await endsOf(system, greedy);
  expect(ends.map(({ status, outputs }) => [status, outputs])).toEqual([
    ['succeeded', { y: [[1]] }], ['succeeded', { y: [[2]] }], ['failed', null], ['succeeded', { y: [[3]] }],
  ]);
  expect(ends[2]?.error).toMatchObject({ type: '/problems/worker-crashed' });
  expect(new Set((await endsOf(system, others)).map(({ status }) => status))).toEqual(new Set(['succeeded']));
  expect(deaths(system)).toBe(2);
  const runs = runsOf(system);
  expect(Math.max(...greedy.map((id) => runs.get(id) ?? 0))).toBe(2);
});

/** What the kernel does at a container's limit: SIGKILL for a worker that has more than this many mebibytes. */
function huntMemory({ workers }: TestSystem, limitMebibytes: number): { stop: () => void } {
  const look = async () => {
    for (const { pid } of workers) {
      const pages = await readFile(`/proc/${pid}/statm`, 'utf8').then((text) => Number(text.split(' ')[1]), () => 0);
      if (pid && pages * 4096 > limitMebibytes * 1024 ** 2) process.kill(pid, 'SIGKILL');
    }
  };
  const timer = setInterval(() => { look().catch(() => { /* it has died meanwhile */ }); }, 20);
  return { stop: () => clearInterval(timer) };
}
