export { ConfigError, readConfig, startingConfig } from './config.ts';
export { type Checks, type HealthReport, runChecks, serveHealth } from './health.ts';
export { Lifecycle, onceOrphaned } from './lifecycle.ts';
export { createLogger, type Logger, logLevels, printableUrl } from './logger.ts';
export { buckets, Counter, createRegistry, Gauge, Histogram, type Registry } from './metrics.ts';
export { lowerPriority } from './priority.ts';
export { isSampled, type Span, startTracing, traceField, type Tracer, tracingSettings } from './tracing.ts';
export { Service, type ServiceLog, type ServiceOptions, type ServiceState } from './service.ts';
