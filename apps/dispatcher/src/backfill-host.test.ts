import { expect, test } from 'vitest';
import { BackfillHost } from './backfill-host.ts';
import type { DispatcherConfig } from './config.ts';
import type { DispatcherMetrics } from './metrics.ts';

test('a thread that has died does not keep its process from ending', async () => {
  const death = Promise.withResolvers<Error>();
  const host = new BackfillHost({ work: 'http://no.place', config: { redisUrl: 'redis://127.0.0.1:1', logLevel: 'silent' } as DispatcherConfig, version: '0' }, {} as DispatcherMetrics, death.resolve);
  expect(await death.promise).toBeInstanceOf(Error);
  await host.stop();
  await host.stop();
});
