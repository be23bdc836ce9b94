// Reply queues: results as BullMQ jobs in queues of the users' own, for any BullMQ client to consume.
import { Queue } from 'bullmq';
import { ReplyError } from 'ioredis';
import type { Redis } from './connection.ts';
import { replyQueuePrefix } from './names.ts';

/** Open at once; the one that was used longest ago is closed for another. */
const mostOpen = 500;
/** Jobs that its consumers failed are kept for them to look at. */
const failedKept = { age: 7 * 86_400, count: 10_000 };
/** A queue that nobody consumes must not fill Redis. */
export const longestReplyQueue = 100_000;

export class ReplyQueues {
  readonly #redis: Redis;
  readonly #queues = new Map<string, Queue>();

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** Adds a job; one whose id is there already is ignored. What keeps it out of the queue, where something does. */
  async add(tenant: string, name: string, job: { readonly id: string; readonly name: string; readonly data: unknown }): Promise<string | undefined> {
    const queue = this.#of(tenant, name);
    try {
      if (await queue.getWaitingCount() >= longestReplyQueue) return 'the reply queue is full';
      await queue.add(job.name, job.data, { jobId: job.id, removeOnComplete: true, removeOnFail: failedKept });
      return undefined;
    } catch (error) {
      // Somebody has put something else under the queue's keys.
      if (error instanceof ReplyError) return 'Redis refuses the reply queue';
      throw error;
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#queues.values()].map((queue) => queue.close()));
  }

  #of(tenant: string, name: string): Queue {
    const key = `${tenant} ${name}`;
    const known = this.#queues.get(key);
    this.#queues.delete(key);
    const queue = known ?? new Queue(name, { prefix: replyQueuePrefix(tenant), connection: this.#redis, skipWaitingForReady: true });
    if (!known) queue.on('error', () => { /* the connection's own listener hears it */ });
    this.#queues.set(key, queue);
    const [oldest] = this.#queues;
    if (this.#queues.size > mostOpen && oldest) {
      this.#queues.delete(oldest[0]);
      void oldest[1].close();
    }
    return queue;
  }
}
