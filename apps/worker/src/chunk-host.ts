// The main thread's side of the chunk thread.
import { Worker } from 'node:worker_threads';
import type { Outcome } from '@millrace/backfill';
import { type Chunk, MillraceError } from '@millrace/protocol';
import type { ChunkReply, ChunkRequest, ChunkThreadData, OpenedChunk, WrittenPart } from './chunk-messages.ts';

interface Pending {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export class ChunkHost {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  readonly #exited = Promise.withResolvers<void>();
  #lastId = 0;
  #stopping = false;
  #alive = true;

  /** `onDeath`: the thread has ended for want of memory, or by a bug. */
  constructor(data: ChunkThreadData, onDeath: (error: Error) => void) {
    this.#worker = new Worker(new URL('./chunk-thread.ts', import.meta.url), { name: 'chunks', workerData: data });
    this.#worker.on('message', ({ id, reply }: { id: number; reply: ChunkReply }) => {
      const { resolve, reject } = this.#pending.get(id) as Pending;
      this.#pending.delete(id);
      if (reply.ok) resolve(reply.value);
      else reject(reply.code === undefined ? new Error(`the chunk thread failed: ${reply.detail}`) : new MillraceError(reply.code, reply.detail));
    });
    const die = (error: Error) => {
      if (!this.#alive) return;
      this.#alive = false;
      for (const { reject } of this.#pending.values()) reject(error);
      this.#pending.clear();
      onDeath(error);
    };
    this.#worker.on('error', die);
    this.#worker.on('exit', (code) => {
      this.#exited.resolve();
      if (this.#stopping) this.#alive = false;
      else die(new Error(`the chunk thread ended with code ${code}`));
    });
  }

  /** Resolves when the thread has started. */
  async ready(): Promise<void> {
    await this.#ask({ type: 'hello' });
  }

  /** Throws MillraceError `input-changed`, `unreadable-input` or `storage-unavailable`. */
  async open(backfillId: string, chunk: Chunk): Promise<OpenedChunk> {
    return await this.#ask({ type: 'open', backfillId, chunk }) as OpenedChunk;
  }

  /** Throws MillraceError `input-changed` or `storage-unavailable`. */
  async write(key: number, outcome: Outcome): Promise<WrittenPart> {
    return await this.#ask({ type: 'write', key, outcome }) as WrittenPart;
  }

  async close(key: number): Promise<void> {
    await this.#ask({ type: 'close', key });
  }

  async stop(): Promise<void> {
    this.#stopping = true;
    // Where it has died, it has been told of.
    if (this.#alive) await this.#ask({ type: 'stop' }).catch(() => undefined);
    await this.#exited.promise;
  }

  #ask(request: ChunkRequest): Promise<unknown> {
    if (!this.#alive) return Promise.reject(new Error('the chunk thread has died'));
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject });
    this.#worker.postMessage({ id, request }, []);
    return promise;
  }
}
