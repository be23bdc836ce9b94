import { storageSettings } from '@millrace/backfill/settings';
import { logLevels, tracingSettings } from '@millrace/process';
import { poolPattern } from '@millrace/protocol';
import { redisSettings } from '@millrace/queue';
import Type, { type Static } from 'typebox';

/** Settings of the worker process. */
export const WorkerConfig = Type.Object({
  ...redisSettings,
  ...storageSettings,
  models: Type.String({ default: 'deploy/models', description: 'Model repository: <name>/<version>/model.onnx' }),
  modelScanSeconds: Type.Number({ default: 2, minimum: 0.1, description: 'Seconds between looks for new model versions' }),
  pool: Type.String({ default: 'default', pattern: poolPattern, description: 'Pool whose models this worker runs' }),
  inferenceThreads: Type.Integer({ default: 1, minimum: 1, maximum: 64, description: 'Inference threads: micro-batches that run at once' }),
  sessionMemoryBytes: Type.Integer({ default: 2 * 1024 ** 3, minimum: 1024, description: 'Bound on loaded models, bytes of their files over all threads' }),
  retentionSeconds: Type.Integer({ default: 86_400, minimum: 1, description: 'Seconds that results are kept' }),
  metricsHost: Type.String({ default: '127.0.0.1', description: 'Address of health and metrics' }),
  metricsPort: Type.Integer({ default: 9464, minimum: 0, maximum: 65_535, description: 'Port of health and metrics; 0 picks a free one' }),
  shutdownSeconds: Type.Number({ default: 25, minimum: 0, description: 'Seconds for running micro-batches to end after SIGTERM' }),
  logLevel: Type.Enum([...logLevels], { default: 'info', description: 'Least level that is logged' }),
  ...tracingSettings,
});
export type WorkerConfig = Static<typeof WorkerConfig>;
