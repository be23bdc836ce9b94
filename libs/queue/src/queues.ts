// BullMQ's queues, one a pool and lane, and how jobs are put there.
import type { Bundle, ChunkJob, Lane } from '@millrace/protocol';
import { type JobsOptions, Queue } from 'bullmq';
import type { Redis } from './connection.ts';
import { prefixOf } from './names.ts';

/** Nobody reads BullMQ's event stream; that something comes is all that an autoscaler looks for (arrivals.ts). */
const eventStreamLength = 100;
/** A handler only throws while Redis is away or a lock was lost: such a bundle is tried again for ever. */
const retryForever = { attempts: Number.MAX_SAFE_INTEGER, backoff: { type: 'fixed', delay: 1000, jitter: 0.5 } } as const;

/** The queues that a process adds to, opened when they are first used. */
export class Queues {
  readonly #redis: Redis;
  readonly #queues = new Map<string, Queue<Bundle | ChunkJob>>();

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** Adds a bundle or a chunk; one whose job id is queued already is ignored. */
  async add(pool: string, job: Bundle | ChunkJob, options: JobsOptions & { jobId: string }): Promise<void> {
    await this.#of(pool, job.lane).add('chunk' in job ? 'chunk' : 'bundle', job, { removeOnComplete: true, priority: job.priority, ...retryForever, ...options });
  }

  /** Removes a job that waits; false where a worker has it. */
  async remove(pool: string, lane: Lane, jobId: string): Promise<boolean> {
    // BullMQ says 1 also where there is no such job.
    return await this.#of(pool, lane).remove(jobId) === 1;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }

  #of(pool: string, lane: Lane): Queue<Bundle | ChunkJob> {
    const name = `${pool} ${lane}`;
    let queue = this.#queues.get(name);
    if (!queue) {
      queue = new Queue<Bundle | ChunkJob>(lane, { prefix: prefixOf(pool), connection: this.#redis, streams: { events: { maxLen: eventStreamLength } }, skipWaitingForReady: true });
      queue.on('error', () => { /* the connection's own listener hears it */ });
      this.#queues.set(name, queue);
    }
    return queue;
  }
}
