// One redis-server at a time writes to a data folder: a file there names the process, and binds for as long as that
// lives. It does not reach across machines or containers that share a folder; their process ids mean nothing here.
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

export interface HeldFolder {
  readonly place: string;
  /** From now on the folder is held for as long as this process lives. */
  handTo(pid: number): void;
  release(): void;
}

// A Redis whose owner was killed still needs a moment to complete its file, and `up` may be started again at once.
const patienceMs = 2_000;
const lookEveryMs = 50;

/** Makes the folder where it is missing. Throws where another living process holds it. */
export async function lockFolder(place: string): Promise<HeldFolder> {
  mkdirSync(place, { recursive: true });
  const lock = path.join(place, 'redis.lock');
  const deadlineMs = performance.now() + patienceMs;
  for (let holder = tryLock(lock); holder !== undefined; holder = tryLock(lock)) {
    if (performance.now() > deadlineMs) throw new Error(inUse(place, holder));
    await delay(lookEveryMs);
  }
  return {
    place,
    handTo: (pid) => replace(lock, identityOf(pid) ?? ''),
    release: () => rmSync(lock, { force: true }),
  };
}

function inUse(place: string, holder: string): string {
  return `The data folder ${place} is in use by process ${pidOf(holder)}: stop that one first, or name another folder`;
}

/** Undefined where this process holds the lock now; else who does. */
function tryLock(lock: string): string | undefined {
  try {
    writeFileSync(lock, identityOf(process.pid) ?? '', { flag: 'wx' });
    return undefined;
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error;
  }
  try {
    const holder = readFileSync(lock, 'utf8');
    if (identityOf(pidOf(holder)) === holder) return holder;
    return takeAway(lock, holder);
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return tryLock(lock);
    throw error;
  }
}

/** Of two that find the same dead holder, the slower must not remove the faster one's fresh lock. */
function takeAway(lock: string, dead: string): string | undefined {
  const aside = `${lock}.${process.pid}`;
  renameSync(lock, aside);
  const taken = readFileSync(aside, 'utf8');
  if (taken !== dead) {
    renameSync(aside, lock);
    return taken;
  }
  rmSync(aside);
  return tryLock(lock);
}

function replace(lock: string, holder: string): void {
  const fresh = `${lock}.${process.pid}`;
  writeFileSync(fresh, holder);
  renameSync(fresh, lock);
}

function pidOf(holder: string): number {
  return Number.parseInt(holder, 10);
}

/**
 * The pid and, where /proc tells it, when the process started: pids come again, in containers soon. Undefined where
 * there is no such process, or only its zombie. Fields 3 and 22 of https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
 */
function identityOf(pid: number): string | undefined {
  try {
    if (process.platform !== 'linux') return process.kill(pid, 0) ? String(pid) : undefined;
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : `${pid} ${fields[22 - 3]}`;
  } catch {
    return undefined;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
