// The part of a worker that runs chunks of backfills: it claims the bulk lane where the process shares a work folder.
import type { Logger } from '@millrace/process';
import { ChunkMarks, Chunks, Consumer, type Redis } from '@millrace/queue';
import { ChunkHost } from './chunk-host.ts';
import type { ClaimReader } from './claim-reader.ts';
import type { WorkerConfig } from './config.ts';
import type { WorkerMetrics } from './metrics.ts';
import { ChunkPredictor } from './predict-chunk.ts';
import type { Runner } from './runner.ts';

export interface BulkOptions {
  readonly config: WorkerConfig;
  readonly redis: Redis;
  readonly replica: string;
  readonly reader: ClaimReader;
  readonly runner: Runner;
  readonly metrics: WorkerMetrics;
  readonly log: Logger;
  /** The chunk thread has died: the process is to be replaced. */
  readonly onThreadDeath: (error: Error) => void;
}

export interface Bulk {
  readonly claimedRows: number;
  start(): void;
  stopClaiming(): Promise<void>;
  /** Gives back what does not run. To be called when the runner has stopped. */
  stop(): void;
  /** Resolves when nothing is claimed any more. */
  ended(): Promise<void>;
  close(): Promise<void>;
}

/** While some chunks run, one is read and one is written. Each takes about as much memory as the chunk's text and tensors. */
const chunksBeside = 2;

/** `work`: the setting `backfillWork`. */
export async function openBulk(work: string, { config, redis, replica, reader, runner, metrics, log, onThreadDeath }: BulkOptions): Promise<Bulk> {
  const { pool, inferenceThreads: threads } = config;
  const host = new ChunkHost({ work, settings: config }, onThreadDeath);
  await host.ready();
  const chunks = new Chunks(redis, pool);
  const predictor = new ChunkPredictor({ host, reader, runner, chunks, marks: new ChunkMarks(redis, { pool, replica }), threads, metrics, log });
  const consumer = new Consumer({
    redis, pool, lane: 'bulk', handlers: { chunk: (claim) => predictor.handle(claim) }, onError: (error) => log.warn({ err: error, lane: 'bulk' }, 'claiming failed'),
  });
  consumer.concurrency = threads + chunksBeside;
  return {
    get claimedRows() { return predictor.claimedRows; },
    start: () => consumer.start(),
    stopClaiming: () => consumer.stopClaiming(),
    stop: () => predictor.stop(),
    ended: () => consumer.close(),
    close: async () => {
      await chunks.close();
      await host.stop();
    },
  };
}
