// The command line as a process of its own, for tests.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { onTestFinished } from 'vitest';
import { findRedisServer } from '../../apps/cli/bin/redis-server.mjs';
import { root, within } from './rig.ts';

const main = path.join(root, 'apps/cli/src/main.ts');
const env = { ...process.env, MILLRACE_REDIS_SERVER: findRedisServer() };

export interface Ended {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** Runs a command to its end. */
export async function millrace(args: readonly string[], input = '', more: Record<string, string> = {}): Promise<Ended> {
  const { child, said } = launch(args, 'pipe', more);
  child.stdin?.end(input);
  const [code] = await once(child, 'close');
  return { code, ...said };
}

export function launch(args: readonly string[], stdin: 'pipe' | 'ignore' = 'ignore', more: Record<string, string> = {}): { child: ChildProcess; said: { out: string; err: string } } {
  const child = spawn(process.execPath, [main, ...args], { env: { ...env, ...more }, stdio: [stdin, 'pipe', 'pipe'] });
  onTestFinished(async () => { await within(20, stop(child), 'the end').catch(() => killAll(child)); });
  const said = { out: '', err: '' };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => { said.out += text; });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => { said.err += text; });
  return { child, said };
}

/** Ctrl-C; the exit code. */
export async function stop(child: ChildProcess): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const ended = once(child, 'exit');
  child.kill('SIGINT');
  await ended;
  return child.exitCode;
}

/** For one that does not stop. */
async function killAll({ pid = 0 }: ChildProcess): Promise<void> {
  for (const one of [pid, ...await descendants(pid)].filter(lives)) process.kill(one, 'SIGKILL');
}

/** The processes below one, and theirs: https://pubs.opengroup.org/onlinepubs/9799919799/utilities/ps.html */
export async function descendants(pid: number): Promise<number[]> {
  const table = (await output('ps', ['-A', '-o', 'pid=,ppid='])).trim().split('\n').map((line) => line.trim().split(/\s+/).map(Number));
  const below = (parent: number): number[] => table.filter(([, of]) => of === parent).flatMap(([child = 0]) => [child, ...below(child)]);
  return below(pid);
}

export function output(file: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(file, args, (error, stdout) => (error ? reject(error) : resolve(stdout)));
  });
}

export function lives(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
