// Structured logs: constant messages, data in fields.
import { type Logger, pino } from 'pino';
import { loggedError } from './logged-error.ts';

export type { Logger } from 'pino';

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

/** A logger that writes one JSON object a line to standard output: `ts` (ISO 8601), `level`, `service`, `pid`, `msg`, fields. */
export function createLogger(service: string, level: (typeof logLevels)[number]): Logger {
  return pino({
    level,
    base: { service, pid: process.pid },
    timestamp: () => `,"ts":"${new Date().toISOString()}"`,
    formatters: { level: (label) => ({ level: label }) },
    redact: ['req.headers.authorization', 'req.headers["x-api-key"]', 'req.headers.cookie'],
    serializers: { err: (error: unknown) => loggedError(error) },
  });
}

/** A URL fit for logs: without its user, its password, and its query, where a password may stand too. */
export function printableUrl(text: string): string {
  const url = new URL(text);
  url.username = '';
  url.password = '';
  url.search = '';
  return url.href;
}
