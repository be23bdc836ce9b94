// The redis-server process: its log lines, its end, and its tie to the life of this process.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

export interface RedisChild {
  readonly pid: number;
  /** Aborted once the process has ended and all its lines are in. */
  readonly ended: AbortSignal;
  lastLines(): string;
  /** SIGTERM, upon which Redis completes its append-only file; SIGKILL after 10 s. */
  stop(): Promise<void>;
}

const keptLines = 20;
const killAfterMs = 10_000;

/** Throws where the binary cannot be run. */
export async function spawnRedis(
  binary: string,
  args: readonly string[],
  log: (line: string) => void = () => {},
): Promise<RedisChild> {
  const [command = binary, ...words] = [...(await parentDeathSignal()), binary, ...args];
  // In a session of its own, so that Ctrl-C on the terminal leaves it up while its owner drains.
  const child = spawn(command, words, { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  await once(child, 'spawn');
  if (child.pid === undefined) throw new Error('A spawned process has a pid');

  const ended = new AbortController();
  child.once('close', () => ended.abort());
  const exited = once(child, 'exit');
  endWithThisProcess(child);

  const lines: string[] = [];
  for (const input of [child.stdout, child.stderr]) {
    createInterface({ input }).on('line', (line) => {
      lines.push(line);
      if (lines.length > keptLines) lines.shift();
      log(line);
    });
  }
  return { pid: child.pid, ended: ended.signal, lastLines: () => lines.join('\n'), stop: () => stop(child, exited) };
}

async function stop(child: ChildProcess, exited: Promise<unknown>): Promise<void> {
  child.kill('SIGTERM');
  const haste = setTimeout(() => child.kill('SIGKILL'), killAfterMs);
  await exited;
  clearTimeout(haste);
}

/** Covers every end of this process but a signal that it does not handle, SIGKILL above all. */
function endWithThisProcess(child: ChildProcess): void {
  const end = () => child.kill('SIGTERM');
  process.once('exit', end);
  child.once('exit', () => process.off('exit', end));
}

/**
 * The words before a command that let the kernel end it with its parent, whatever that dies of (PR_SET_PDEATHSIG, set
 * by util-linux's setpriv). Without setpriv, as on macOS, a SIGKILL of this process leaves Redis running: the lock on
 * the data folder then names its pid. The parent is the thread that spawns, so spawn from the main one.
 */
async function parentDeathSignal(): Promise<string[]> {
  const words = ['setpriv', '--pdeathsig', 'TERM'];
  const [program = '', ...options] = words;
  return promisify(execFile)(program, [...options, 'true']).then(
    () => words,
    () => [],
  );
}
