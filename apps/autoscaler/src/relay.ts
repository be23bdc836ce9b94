// What workers write goes where this process writes, as it is, with the name of the replica; what is said of them is logged here.
import type { Writable } from 'node:stream';
import type { Logger, ServiceLog } from '@millrace/process';

export function relay(out: Writable, log: Logger): ServiceLog {
  return (replica, { level, msg, ...fields }) => {
    if ('ts' in fields) {
      out.write(`${JSON.stringify({ level, ...fields, msg, replica })}\n`);
      return;
    }
    log[level === 'error' ? 'error' : 'warn']({ replica, ...fields }, String(msg));
  };
}
