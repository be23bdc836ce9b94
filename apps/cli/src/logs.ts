// Logs of several processes, for people.
import type { ServiceLog } from '@millrace/process';
import pretty from 'pino-pretty';

/** Writes log lines to standard error: time, level, service, message, fields. */
export function prettyLog(): ServiceLog {
  const stream = pretty({
    destination: 2, sync: true, singleLine: true, colorize: process.stderr.isTTY,
    timestampKey: 'ts', translateTime: 'SYS:HH:MM:ss.l', ignore: 'pid,hostname,service', messageFormat: '{service}: {msg}',
  });
  return (service, fields) => { stream.write(`${JSON.stringify({ ...fields, service })}\n`); };
}

/** Only what somebody has to know of. */
export function warnings(): ServiceLog {
  const log = prettyLog();
  return (service, fields) => { if (['warn', 'error', 'fatal'].includes(String(fields['level']))) log(service, fields); };
}
