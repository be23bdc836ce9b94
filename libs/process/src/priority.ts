// The priority of threads, where the system has one for each: on Linux.
import { readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';

/** They get about a tenth of a busy processor beside others, and all of an idle one. */
const lower = 10;

/** Lowers the priority of this process' threads of a name, and of what they will start. Does nothing where that cannot be done. */
export function lowerPriority(threadName: string): void {
  const tasks = '/proc/self/task';
  try {
    for (const id of readdirSync(tasks)) {
      if (readFileSync(`${tasks}/${id}/comm`, 'utf8').trim() === threadName) os.setPriority(Number(id), lower);
    }
  } catch { /* another system, or a thread that has ended */ }
}
