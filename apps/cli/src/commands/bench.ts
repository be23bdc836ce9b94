// `millrace bench`: the benchmarks of the repository, in a process of their own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const script = fileURLToPath(new URL('../../../../test/bench/main.ts', import.meta.url));

export interface BenchTools {
  readonly redisServer: string | undefined;
  readonly wrk: string | undefined;
}

/** Passes the arguments on; the benchmark's exit code. */
export async function bench(args: readonly string[], { redisServer, wrk }: BenchTools): Promise<number> {
  const tools = [...(redisServer ? ['--redis-server', redisServer] : []), ...(wrk ? ['--wrk', wrk] : [])];
  const child = spawn(process.execPath, [script, ...args, ...tools], { stdio: 'inherit' });
  const [code] = await once(child, 'exit') as [number | null];
  return code ?? 1;
}
