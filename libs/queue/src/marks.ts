// What a bundle's results hash says beside results: predictions that are tried again under another job, and what was
// running alone when its replica was last heard of.
import type { BundledPrediction, Lane, Notify, Pending } from '@millrace/protocol';
import type { Claim } from './consumer.ts';
import type { Redis } from './connection.ts';
import { keysOf, type PoolKeys, retryJobId } from './names.ts';
import { Queues } from './queues.ts';

/** A prediction that waits to be tried again, as its bundle's results hash has it. */
export interface Retried {
  readonly jobId: string;
  readonly lane: Lane;
  readonly rows: number;
  readonly replyTo?: string;
  readonly notify?: Notify;
  readonly pending: Pending;
}

export interface BundleMarks {
  /** Indexes that need not run under this claim: settled, or waiting under a later attempt's job. */
  readonly done: ReadonlySet<number>;
  /** Indexes that another replica was running alone, and did not end. */
  readonly crashed: ReadonlySet<number>;
  /** Whether a thread died that ran something of it. */
  readonly suspect: boolean;
}

const leastMarkSeconds = 600;
const suspectField = 'suspect';
export const retryField = (index: number | ''): string => `retry:${index}`;
const runningField = (index: number | ''): string => `running:${index}`;

/** The marks of one pool's bundles, as one replica reads and writes them. */
export class Marks {
  readonly #redis: Redis;
  readonly #pool: string;
  readonly #keys: PoolKeys;
  readonly #replica: string;
  readonly #retentionSeconds: number;
  readonly #queues: Queues;

  /** `replica`: unique over processes and their restarts. */
  constructor(redis: Redis, { pool, replica, retentionSeconds }: { pool: string; replica: string; retentionSeconds: number }) {
    this.#redis = redis;
    this.#pool = pool;
    this.#keys = keysOf(pool);
    this.#replica = replica;
    this.#retentionSeconds = retentionSeconds;
    this.#queues = new Queues(redis);
  }

  async read({ bundleId, attempt }: Pick<Claim, 'bundleId' | 'attempt'>): Promise<BundleMarks> {
    const key = this.#keys.results(bundleId);
    const fields = await this.#redis.hkeys(key);
    const done = new Set(fields.filter((field) => /^\d+$/.test(field)).map(Number));
    const crashed = new Set<number>();
    const marked = fields.filter((field) => field.startsWith(runningField('')) || field.startsWith(retryField('')));
    const values = marked.length > 0 ? await this.#redis.hmget(key, ...marked) : [];
    for (const [place, field] of marked.entries()) {
      const value = values[place] ?? '';
      const index = Number(field.split(':')[1]);
      if (field === runningField(index)) {
        if (value !== '' && value !== this.#replica) crashed.add(index);
      } else if (((JSON.parse(value || '{}') as Partial<Retried>).pending?.attempts ?? 0) >= attempt) {
        done.add(index);
      }
    }
    return { done, crashed, suspect: fields.includes(suspectField) };
  }

  /** Resolves once Redis knows that this replica runs the prediction, and nothing beside it. */
  async running(bundleId: string, index: number): Promise<void> {
    await this.#write(bundleId, { [runningField(index)]: this.#replica });
  }

  /** The run has ended and the replica lives. */
  async ran(bundleId: string, index: number): Promise<void> {
    await this.#redis.hdel(this.#keys.results(bundleId), runningField(index));
  }

  /** Whoever claims the bundle next runs its predictions one at a time. */
  async suspect(bundleId: string): Promise<void> {
    await this.#write(bundleId, { [suspectField]: '1' });
  }

  /** Queues a prediction of the claim alone, for its next attempt. Asked for again, it changes nothing. */
  async retry({ bundle, bundleId, attempt }: Claim, index: number, prediction: BundledPrediction, delayMs: number): Promise<void> {
    const { tenant, lane, model, replyTo } = bundle;
    const jobId = retryJobId(bundleId, index, attempt + 1);
    const { acceptedAt, echo, rows, notify, trace } = prediction;
    const pending: Pending = { state: 'queued', model: model.name, version: model.version, acceptedAt, attempts: attempt, ...(echo && { echo }), ...(trace && { trace }) };
    const retried: Retried = { jobId, lane, rows, ...(replyTo && { replyTo }), ...(notify && { notify }), pending };
    await this.#queues.add(this.#pool, { ...bundle, predictions: [prediction], retry: { bundleId, index, attempt: attempt + 1 } }, { jobId, delay: delayMs });
    await Promise.all([this.#write(bundleId, { tenant, [retryField(index)]: JSON.stringify(retried) }), this.ran(bundleId, index)]);
  }

  async close(): Promise<void> {
    await this.#queues.close();
  }

  async #write(bundleId: string, fields: Readonly<Record<string, string>>): Promise<void> {
    const key = this.#keys.results(bundleId);
    // Not a pipeline: its failed commands would not reject. A mark must outlive the lock of the replica that set it.
    await Promise.all([this.#redis.hset(key, fields), this.#redis.expire(key, Math.max(this.#retentionSeconds, leastMarkSeconds))]);
  }
}
