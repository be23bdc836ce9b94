import { logLevels } from '@millrace/process';
import { redisSettings } from '@millrace/queue';
import Type, { type Static } from 'typebox';
import { deploymentsPattern, poolsPattern } from './pools.ts';

/** Settings of the autoscaler process. */
export const AutoscalerConfig = Type.Object({
  ...redisSettings,
  pools: Type.String({ default: 'default=0..4', pattern: poolsPattern, description: 'Pools to scale, each with its least and most workers' }),
  actuator: Type.Enum(['processes', 'kubernetes'], { default: 'processes', description: 'What workers are: processes that this one starts, or pods of Kubernetes Deployments' }),
  deployments: Type.String({ default: '', pattern: deploymentsPattern, description: 'Deployments in Kubernetes to scale, by pool, as in gpu=workers-gpu; other pools are decided on, and scaled by others' }),
  kubernetesUrl: Type.String({ default: 'https://kubernetes.default.svc', pattern: '^https://', description: 'API server of Kubernetes' }),
  kubernetesAccount: Type.String({ default: '/var/run/secrets/kubernetes.io/serviceaccount', description: 'Folder with the token, ca.crt and namespace of its service account' }),
  kedaHost: Type.String({ default: '127.0.0.1', description: 'Address of the scaler for KEDA' }),
  kedaPort: Type.Optional(Type.Integer({ minimum: 0, maximum: 65_535, description: 'Port of the scaler for KEDA (gRPC); 0 picks a free one, and without it there is none' })),
  pollSeconds: Type.Number({ default: 1, minimum: 0.05, maximum: 10, description: 'Seconds between decisions' }),
  targetSeconds: Type.Number({ default: 5, minimum: 0.1, description: 'Seconds within which an online prediction should be served' }),
  bulkDrainSeconds: Type.Number({ default: 600, minimum: 1, description: 'Seconds within which a backfill should be served' }),
  utilisation: Type.Number({ default: 0.8, minimum: 0.1, maximum: 1, description: 'Share of the inference threads that arrivals may keep busy' }),
  scaleInDelaySeconds: Type.Number({ default: 300, minimum: 0, description: 'Seconds that fewer workers must have been enough before some are stopped' }),
  idleSeconds: Type.Number({ default: 300, minimum: 0, description: 'Seconds that a pool must have been empty before it goes to its least workers at once' }),
  staleSeconds: Type.Number({ default: 30, minimum: 1, description: 'Seconds that a reading is trusted; without one no worker is stopped' }),
  startSeconds: Type.Number({ default: 5, minimum: 0, description: 'Seconds from the start of a worker to its first claim' }),
  metricsHost: Type.String({ default: '127.0.0.1', description: 'Address of health and metrics' }),
  metricsPort: Type.Integer({ default: 9466, minimum: 0, maximum: 65_535, description: 'Port of health and metrics; 0 picks a free one' }),
  shutdownSeconds: Type.Number({ default: 25, minimum: 0, description: "Seconds for a worker's running micro-batches to end after SIGTERM" }),
  logLevel: Type.Enum([...logLevels], { default: 'info', description: 'Least level that is logged' }),
});
export type AutoscalerConfig = Static<typeof AutoscalerConfig>;
