// A bare loop of `session.run` on the heavy model: the rows per second that Millrace is compared with. Tasks come by IPC.
import { readFile } from 'node:fs/promises';
import { InferenceSession, Tensor } from 'onnxruntime-node';

const [model = '', input = ''] = process.argv.slice(2);
const session = await InferenceSession.create(await readFile(model), { intraOpNumThreads: 1, interOpNumThreads: 1, executionMode: 'sequential', graphOptimizationLevel: 'all' });

async function rowsPerSecond(batch: number, ms: number): Promise<number> {
  const pixels = Float32Array.from({ length: batch * 64 }, (_, index) => index % 17);
  const feeds = { [input]: new Tensor('float32', pixels, [batch, 64]) };
  await session.run(feeds);
  const startedAt = performance.now();
  let rows = 0;
  while (performance.now() - startedAt < ms) {
    await session.run(feeds);
    rows += batch;
  }
  return rows / ((performance.now() - startedAt) / 1000);
}

const sizes = [1, 2, 4, 8, 16, 32, 64];
let best: number | undefined;

process.on('message', (ms: number) => {
  void (async () => {
    if (best === undefined) {
      const speeds: number[] = [];
      for (const size of sizes) speeds.push(await rowsPerSecond(size, 300));
      best = sizes[speeds.indexOf(Math.max(...speeds))] as number;
    }
    process.send?.({ batch: best, rowsPerSecond: await rowsPerSecond(best, ms) });
  })();
});
process.send?.('ready');
process.on('disconnect', () => process.exit());
