// What a bundle's results hash says beside results: predictions that are tried again under another job, and what was
// running alone when its replica was last heard of.
import { type BundledPrediction, type Lane, type Pending } from '@millrace/protocol';
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

const suspectField = 'suspect';
export const retryField = (index: number): string => `retry:${index}`;
const runningField = (index: number): string => `running:${index}`;

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
    const done = new Set<number>();
    const running: string[] = [];
    let suspect = false;
    for (const field of await this.#redis.hkeys(key)) {
      if (/^\d+$/.test(field)) done.add(Number(field));
      else if (field.startsWith('running:')) running.push(field);
      // A retry's own mark does not speak against it.
      else if (field.startsWith('retry:') && attempt === 1) done.add(Number(field.slice('retry:'.length)));
      else if (field === suspectField) suspect = true;
    }
    const replicas = running.length > 0 ? await this.#redis.hmget(key, ...running) : [];
    const crashed = running.filter((_, place) => replicas[place] !== this.#replica).map((field) => Number(field.slice('running:'.length)));
    return { done, crashed: new Set(crashed), suspect };
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
    const { deadlineAt: _started, ...again } = prediction;
    const { tenant, lane, model, replyTo } = bundle;
    const jobId = retryJobId(bundleId, index, attempt + 1);
    const { acceptedAt, echo, rows } = prediction;
    const pending: Pending = { state: 'queued', model: model.name, version: model.version, acceptedAt, attempts: attempt, ...(echo && { echo }) };
    const retried: Retried = { jobId, lane, rows, ...(replyTo && { replyTo }), pending };
    await this.#queues.add(this.#pool, { ...bundle, predictions: [again], retry: { bundleId, index, attempt: attempt + 1 } }, { jobId, delay: delayMs });
    await this.#write(bundleId, { tenant, [retryField(index)]: JSON.stringify(retried) });
  }

  async close(): Promise<void> {
    await this.#queues.close();
  }

  async #write(bundleId: string, fields: Readonly<Record<string, string>>): Promise<void> {
    const key = this.#keys.results(bundleId);
    // Not a pipeline: its failed commands would not reject.
    await Promise.all([this.#redis.hset(key, fields), this.#redis.expire(key, this.#retentionSeconds)]);
  }
}
