// The main thread's side of one inference thread.
import { Worker } from 'node:worker_threads';
import { MillraceError } from '@millrace/protocol';
import type { LoadReply, LoadRequest, Request, RunReply, RunRequest } from './thread-messages.ts';

interface Pending {
  readonly resolve: (reply: unknown) => void;
  readonly reject: (error: MillraceError) => void;
}

/**
 * Starts a thread and carries requests to it; it answers them in order. Should it die, all its requests reject with
 * `worker-crashed` and, where it had started, `onDeath` is called.
 */
export class SessionHost {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #exited: Promise<void>;
  #lastId = 0;
  #started = false;
  #alive = true;
  #stopping: Promise<void> | undefined;

  constructor(name: string, onDeath: (error: Error) => void) {
    this.#worker = new Worker(new URL('./session-thread.ts', import.meta.url), { name });
    this.#worker.on('message', ({ id, reply }: { id: number; reply: unknown }) => {
      this.#pending.get(id)?.resolve(reply);
      this.#pending.delete(id);
    });
    const die = (error: Error): void => {
      if (!this.#alive) return;
      this.#alive = false;
      for (const { reject } of this.#pending.values()) reject(threadDied(error));
      this.#pending.clear();
      if (this.#started) onDeath(error);
    };
    this.#worker.on('error', die);
    this.#worker.on('messageerror', die);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#exited = promise;
    this.#worker.on('exit', (code) => {
      resolve();
      if (!this.#stopping) die(new Error(`an inference thread ended with code ${code}`));
    });
  }

  /** Resolves when the thread has started; rejects where it cannot, for instance for want of the native library. */
  async ready(): Promise<void> {
    await this.#ask({ type: 'hello' });
    this.#started = true;
  }

  async load(request: LoadRequest): Promise<LoadReply> {
    return await this.#ask(request) as LoadReply;
  }

  async run(request: RunRequest, transfer: readonly ArrayBuffer[]): Promise<RunReply> {
    return await this.#ask(request, transfer) as RunReply;
  }

  /** Resolves when the session's memory is free. */
  async release(key: string): Promise<void> {
    await this.#ask({ type: 'release', key });
  }

  /**
   * Ends the thread behind what it has been asked for. It is never terminated: that makes the binding's next exception
   * abort the whole process.
   */
  stop(): Promise<void> {
    this.#stopping ??= this.#end();
    return this.#stopping;
  }

  get alive(): boolean {
    return this.#alive;
  }

  async #end(): Promise<void> {
    // Where it dies instead, `onDeath` hears of it.
    if (this.#alive) await this.#ask({ type: 'stop' }).catch(() => undefined);
    await this.#exited;
    this.#alive = false;
  }

  #ask(request: Request, transfer: readonly ArrayBuffer[] = []): Promise<unknown> {
    if (!this.#alive) return Promise.reject(threadDied());
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject });
    this.#worker.postMessage({ id, request }, transfer);
    return promise;
  }
}

function threadDied(cause?: Error): MillraceError {
  return new MillraceError('worker-crashed', 'The inference thread died while it ran this prediction', { cause });
}
