// The real processes for the backfill benchmark, and one backfill after another through them.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { Backfill } from '@millrace/protocol';
import { Client } from '../../apps/cli/src/client.ts';
import { startSystem, type System } from '../../apps/cli/src/embedded/system.ts';
import { until } from '../integration/until.ts';
import { columns } from './backfill-files.ts';

export interface BackfillSystemOptions {
  readonly redisServer: string | undefined;
  readonly models: string;
  /** Inputs and outputs are here. */
  readonly folder: string;
  readonly workers: number;
  readonly inferenceThreads: number;
  readonly workerNodeArgs?: readonly string[];
}

export interface BackfillTask {
  readonly model: string;
  readonly input: string;
  /** A name in the folder. */
  readonly output: string;
  readonly chunkRows?: number;
}

const limitSeconds = 900;
/** Each look costs 4 ms of CPU, here and in the API; the end has a time of its own. */
const betweenLooksMs = 250;

export class BackfillSystem {
  readonly system: System;
  readonly client: Client;
  readonly #folder: string;
  readonly #work: string;

  private constructor(system: System, folder: string, work: string) {
    this.system = system;
    this.client = new Client(system.url);
    this.#folder = folder;
    this.#work = work;
  }

  static async start({ redisServer, models, folder, workers, inferenceThreads, workerNodeArgs }: BackfillSystemOptions): Promise<BackfillSystem> {
    const work = await mkdtemp(path.join(folder, 'work-'));
    const system = await startSystem({
      redisServer, models, port: 0, workers, workerNodeArgs,
      env: { MILLRACE_BACKFILL_WORK: work, MILLRACE_BACKFILL_INPUTS: folder, MILLRACE_BACKFILL_OUTPUTS: folder, MILLRACE_INFERENCE_THREADS: String(inferenceThreads) },
      onLog: (service, fields) => { if (['warn', 'error', 'fatal'].includes(String(fields['level']))) console.error(service, fields); },
    });
    return new BackfillSystem(system, folder, work);
  }

  /** As a user makes it. */
  create({ model, input, output, chunkRows }: BackfillTask): Promise<Backfill> {
    return this.client.createBackfill({
      model, input: { uri: input }, output: { uri: path.join(this.#folder, output), overwrite: true, vectors: 'expanded' }, mapping: { image: columns },
      ...(chunkRows !== undefined && { chunk_rows: chunkRows }),
    });
  }

  /** Runs one to its end; seconds from the request to the moment when its output is there. */
  async run(task: BackfillTask): Promise<number> {
    const startedAt = Date.now();
    const { id } = await this.create(task);
    const ended = await this.comesTo(id, ['completed', 'failed']);
    if (ended.status === 'failed') throw new Error(JSON.stringify(ended.error));
    return (Date.parse(ended.completed_at as string) - startedAt) / 1000;
  }

  comesTo(id: string, states: readonly Backfill['status'][]): Promise<Backfill> {
    return until(async () => {
      const backfill = await this.client.backfill(id);
      return states.includes(backfill.status) && backfill.requested === null && backfill;
    }, `${id} to be ${states.join(' or ')}`, limitSeconds, betweenLooksMs);
  }

  /** The most memory that each process has had, in MiB: the kernel's own count (proc(5), VmHWM). */
  async peakMib(): Promise<Readonly<Record<string, number>>> {
    const { api, dispatcher, workers: [worker], redisPid } = this.system;
    const pids = { api: api.pid, dispatcher: dispatcher?.pid, worker: worker?.pid, redis: redisPid };
    const entries = Object.entries(pids).map(async ([name, pid]) => {
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      return [name, Number(/^VmHWM:\s+(\d+) kB/m.exec(status)?.[1]) / 1024] as const;
    });
    return Object.fromEntries(await Promise.all(entries));
  }

  async stop(): Promise<void> {
    await this.system.stop();
    await rm(this.#work, { recursive: true, force: true });
  }
}
