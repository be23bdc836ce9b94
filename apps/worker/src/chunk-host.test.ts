import type { StorageSettings } from '@millrace/backfill/settings';
import { expect, test } from 'vitest';
import { ChunkHost } from './chunk-host.ts';

test('a thread that has died answers nothing more, and does not keep its process from ending', async () => {
  const deaths: Error[] = [];
  const settings: StorageSettings = { backfillThreads: 1, backfillMemoryBytes: 2 ** 26, s3Region: '' };
  const host = new ChunkHost({ work: 'http://no.place', settings }, (error) => deaths.push(error));
  await expect(host.ready()).rejects.toThrow('neither a path nor s3');
  await host.stop();
  await expect(host.close(1)).rejects.toThrow('the chunk thread has died');
  await host.stop();
  expect(deaths).toHaveLength(1);
});
