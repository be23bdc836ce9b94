import { placeSettings } from '@millrace/backfill/settings';
import { logLevels, tracingSettings } from '@millrace/process';
import { deliverySettings, redisSettings } from '@millrace/queue';
import Type, { type Static } from 'typebox';

/** Settings of the API process. */
export const ApiConfig = Type.Object({
  host: Type.String({ default: '127.0.0.1', description: 'Address to listen on' }),
  port: Type.Integer({ default: 8080, minimum: 0, maximum: 65_535, description: 'Port to listen on; 0 picks a free one' }),
  ...redisSettings,
  models: Type.String({ default: 'deploy/models', description: 'Model repository: <name>/<version>/model.onnx' }),
  modelScanSeconds: Type.Number({ default: 2, minimum: 0.1, description: 'Seconds between looks for new model versions' }),
  bodyLimitBytes: Type.Integer({ default: 16 * 1024 * 1024, minimum: 1024, description: 'Largest request body, bytes' }),
  maxRows: Type.Integer({ default: 10_000, minimum: 1, description: 'Most rows in one prediction' }),
  maxWaiting: Type.Integer({ default: 20_000, minimum: 1, description: 'Most predictions that may wait in memory to be queued' }),
  maxWaitingBytes: Type.Integer({ default: 256 * 1024 * 1024, minimum: 1024, description: 'Most bytes of inputs that may wait in memory to be queued' }),
  maxQueuedRows: Type.Integer({ default: 2_000_000, minimum: 1, description: 'Most rows of one pool that may wait or run' }),
  maxQueuedRowsPerTenant: Type.Integer({ default: 1_500_000, minimum: 1, description: 'Most rows of one tenant and pool that may wait or run' }),
  retentionSeconds: Type.Integer({ default: 86_400, minimum: 1, description: 'Seconds that results are kept' }),
  ...deliverySettings,
  ...placeSettings,
  bundlePredictions: Type.Integer({ default: 64, minimum: 1, maximum: 100, description: 'Most predictions in one bundle' }),
  addsInFlight: Type.Integer({ default: 1, minimum: 1, description: 'Bundles of one model that may be on their way to Redis at once' }),
  shutdownSeconds: Type.Number({ default: 10, minimum: 0, description: 'Seconds for requests to end after SIGTERM' }),
  logLevel: Type.Enum([...logLevels], { default: 'info', description: 'Least level that is logged' }),
  ...tracingSettings,
});
export type ApiConfig = Static<typeof ApiConfig>;
