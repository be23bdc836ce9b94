// Child processes of a benchmark that take one task after another by IPC.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export class TaskProcess<Task, Result> {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  /** Forks a script of this folder; `ready` where it says so by IPC when it can take tasks. */
  static async start<Task, Result>(script: string, args: readonly string[] = []): Promise<TaskProcess<Task, Result>> {
    const child = fork(fileURLToPath(new URL(script, import.meta.url)), args);
    await once(child, 'message');
    return new TaskProcess(child);
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  async do(task: Task): Promise<Result> {
    const over = new AbortController();
    const { signal } = over;
    this.#child.send(task as object);
    try {
      const [result] = await Promise.race([
        once(this.#child, 'message', { signal }),
        once(this.#child, 'exit', { signal }).then(([code]) => { throw new Error(`${this.#child.spawnargs.at(-1)} ended with ${String(code)}`); }),
      ]) as [Result];
      return result;
    } finally {
      over.abort();
    }
  }

  stop(): void {
    this.#child.disconnect();
  }
}
