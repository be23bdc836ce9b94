// Structured logs: constant messages, data in fields.
import os from 'node:os';
import { type Logger, pino } from 'pino';
import { loggedError } from './logged-error.ts';

export type { Logger } from 'pino';

export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;

/**
 * A logger that writes one JSON object a line to standard output: `ts` (ISO 8601), `level`, `service`, `version`, `host`, `pid`, `msg`, fields.
 * package.json gives pino a newer sonic-boom than its own, which would write a fatal line to a pipe without a reader for ever.
 */
export function createLogger(service: string, version: string, level: (typeof logLevels)[number]): Logger {
  return pino({
    level,
    base: { service, version, host: os.hostname(), pid: process.pid },
    timestamp: () => `,"ts":"${new Date().toISOString()}"`,
    formatters: { level: (label) => ({ level: label }) },
    redact: ['req.headers.authorization', 'req.headers["x-api-key"]', 'req.headers.cookie'],
    serializers: { err: (error: unknown) => loggedError(error) },
  });
}

/** A URL fit for logs: without its user, password and parameters. Also one that names several hosts, which `URL` cannot read. */
export function printableUrl(text: string): string {
  const [scheme = '', rest = ''] = text.split('://', 2);
  const [place = '', query = ''] = rest.split(/\?(.*)/s);
  // A login with a ? in it looks like a query with an @ in it: then nothing is certain to be no secret.
  if (!place.includes('@') && query.includes('@')) return `${scheme}://`;
  return `${scheme}://${place.slice(place.lastIndexOf('@') + 1)}`;
}
