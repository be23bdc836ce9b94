import { placeSettings, storageSettings } from '@millrace/backfill/settings';
import { defaultDelays } from '@millrace/delivery';
import { logLevels, tracingSettings } from '@millrace/process';
import { deliverySettings, redisSettings } from '@millrace/queue';
import Type, { type Static } from 'typebox';

/** Settings of the dispatcher process. */
export const DispatcherConfig = Type.Object({
  ...redisSettings,
  ...storageSettings,
  ...placeSettings,
  backfillRetentionSeconds: Type.Integer({ default: 604_800, minimum: 60, description: 'Seconds that backfills are kept after their end' }),
  ...deliverySettings,
  webhookRetrySeconds: Type.String({ default: defaultDelays, description: 'Seconds after each failed attempt until the next, give or take a fifth' }),
  webhookTimeoutSeconds: Type.Number({ default: 15, minimum: 0.1, maximum: 30, description: 'Seconds for one attempt, from connecting to the answer' }),
  webhookConcurrencyPerHost: Type.Integer({ default: 8, minimum: 1, maximum: 256, description: 'Attempts at one host at once' }),
  webhookDisableSeconds: Type.Integer({ default: 432_000, minimum: 1, description: 'Seconds of nothing but failures after which an endpoint is disabled' }),
  metricsHost: Type.String({ default: '127.0.0.1', description: 'Address of health and metrics' }),
  metricsPort: Type.Integer({ default: 9465, minimum: 0, maximum: 65_535, description: 'Port of health and metrics; 0 picks a free one' }),
  shutdownSeconds: Type.Number({ default: 20, minimum: 0, description: 'Seconds for attempts under way to end after SIGTERM' }),
  logLevel: Type.Enum([...logLevels], { default: 'info', description: 'Least level that is logged' }),
  ...tracingSettings,
});
export type DispatcherConfig = Static<typeof DispatcherConfig>;
