// `millrace bench`: the benchmarks of the repository, in a process of their own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../../../test/bench/main.ts', import.meta.url));

/** Passes the arguments on; the benchmark's exit code. */
export async function bench(args: readonly string[], redisServer: string | undefined): Promise<number> {
  const child = spawn(process.execPath, [script, ...args, ...(redisServer ? ['--redis-server', redisServer] : [])], { stdio: 'inherit' });
  const [code] = await once(child, 'exit') as [number | null];
  return code ?? 1;
}
