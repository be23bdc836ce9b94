// Predictions that leave at seeded random moments, however those before them fare. Tasks come by IPC; the answer is how long
// each took from the moment when it was due, so that one that leaves late for want of CPU counts as slow.
import { setTimeout as delay } from 'node:timers/promises';
import { Agent } from 'undici';
import { randomOf } from '../integration/random.ts';

export interface OpenLoopTask {
  readonly url: string;
  readonly body: string;
  readonly perSecond: number;
  readonly seconds: number;
}

export interface OpenLoopResult {
  readonly latenciesMs: readonly number[];
  /** Answers that were no result. */
  readonly bad: number;
}

const agent = new Agent();
const random = randomOf(1);

async function load({ url, body, perSecond, seconds }: OpenLoopTask): Promise<OpenLoopResult> {
  const latenciesMs: number[] = [];
  let bad = 0;
  const predict = async (dueAt: number) => {
    const response = await agent.request({ origin: url, path: '/api/v1/predictions', method: 'POST', headers: { 'content-type': 'application/json', prefer: 'wait=60' }, body });
    if (!(await response.body.text()).includes('"status":"succeeded"')) bad++;
    latenciesMs.push(performance.now() - dueAt);
  };
  const open: Promise<void>[] = [];
  const startedAt = performance.now();
  for (let dueAt = startedAt; dueAt < startedAt + 1000 * seconds; dueAt -= Math.log(1 - random()) * 1000 / perSecond) {
    const early = dueAt - performance.now();
    if (early > 0) await delay(early);
    open.push(predict(dueAt));
  }
  await Promise.all(open);
  return { latenciesMs, bad };
}

process.on('message', (task: OpenLoopTask) => { void load(task).then((result) => process.send?.(result)); });
process.send?.('ready');
process.on('disconnect', () => process.exit());
