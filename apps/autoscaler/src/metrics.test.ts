import { createRegistry } from '@millrace/process';
import { expect, test } from 'vitest';
import { Decisions } from './decisions.ts';
import { AutoscalerMetrics } from './metrics.ts';

test('what is decided is told as long as it holds, and while nothing can be decided no number is', async () => {
  let now = 0;
  const decisions = new Decisions(['default', 'gpu'], 10_000, () => now);
  const registry = createRegistry('autoscaler', '0');
  new AutoscalerMetrics(registry, { decisions, workers: () => [] });
  const told = async () => [...(await registry.metrics()).matchAll(/^millrace_workers_desired\{pool="(\w+)".*\} (\d+)$/gm)].map(([, pool, desired]) => [pool, desired]);
  decisions.tell('default', 3);
  expect(await told()).toEqual([['default', '3']]);
  now = 9000;
  decisions.tell('gpu', 0);
  expect(await told()).toEqual([['default', '3'], ['gpu', '0']]);
  now = 11_000;
  expect(await told()).toEqual([['gpu', '0']]);
});
