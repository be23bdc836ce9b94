// The backfill thread: coordinates backfills with a Redis connection of its own, so that nobody else waits while it reads an input
// or puts an output together. It runs with less priority than the others of its process.
import { parentPort, workerData } from 'node:worker_threads';
import { createLogger, lowerPriority } from '@millrace/process';
import { connect } from '@millrace/queue';
import { Backfills } from './backfills.ts';
import type { BackfillNews, BackfillThreadData } from './backfill-host.ts';

if (!parentPort) throw new Error('this file is the body of a worker thread');
const port = parentPort;
const { config, work, version } = workerData as BackfillThreadData;
// DuckDB's threads take over the priority of the one that makes them.
lowerPriority('backfills');
const log = createLogger('dispatcher', version, config.logLevel);
const redis = connect(config, 'worker', (error) => log.warn({ err: error }, 'Redis connection failed'));
const backfills = await Backfills.open(work, { config, redis, log, version, tell: (news: BackfillNews) => port.postMessage(news) });
// Here DuckDB's queries run, and Node's own file operations.
lowerPriority('libuv-worker');
await backfills.start();
port.on('message', () => {
  void backfills.stop().finally(() => {
    redis.disconnect();
    // Nothing else keeps the thread alive.
    port.close();
  });
});
port.postMessage({ kind: 'ready' } satisfies BackfillNews);
