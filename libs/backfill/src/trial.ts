// For tests: a whole backfill in one process, over real files, with a function in the model's place.
import { mkdtemp, readdir, readFile, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bytesOf, numbersOf, type NumericTensor, type Signature, type Tensors } from '@millrace/protocol';
import { assemble } from './assemble.ts';
import { checkBackfill, type CheckOptions } from './check.ts';
import { openChunk, type OpenChunk } from './chunk.ts';
import { Engine } from './engine.ts';
import type { RowGroup } from './groups.ts';
import type { BackfillData } from './job.ts';
import { LocalInputs } from './local-inputs.ts';
import type { Manifest } from './manifest.ts';
import type { ObjectStore } from './object-store.ts';
import { type Outcome, type Part, writePart } from './part.ts';
import { Places } from './places.ts';
import type { Chunk, ChunkLimits, Plan } from './plan.ts';
import { stage } from './stage.ts';
import { Target } from './target.ts';
import { WorkFolder, type WorkPlace } from './work-place.ts';

export type Model = (tensors: Tensors, rows: number) => Tensors;

/** Two numbers in, their sum and the numbers themselves out. */
export const pairs: Signature = {
  inputs: [{ name: 'x', dtype: 'float32', shape: [-1, 2] }],
  outputs: [{ name: 'sum', dtype: 'float32', shape: [-1, 1] }, { name: 'same', dtype: 'float32', shape: [-1, 2] }],
};

export const addPairs: Model = ({ x }, rows) => {
  const numbers = numbersOf(x as NumericTensor) as Float32Array;
  const sums = Float32Array.from({ length: rows }, (_, row) => (numbers[2 * row] as number) + (numbers[2 * row + 1] as number));
  return { sum: { dtype: 'float32', shape: [rows, 1], data: bytesOf(sums) }, same: x as NumericTensor };
};

export const facts = {
  id: 'bf-1', model: { name: 'pairs', version: 1, digest: 'abc' }, versions: { millrace: '0.1.0' },
  startedAt: '2026-01-01T00:00:00.000Z', finishedAt: '2026-01-01T00:01:00.000Z',
} as const;

export interface TrialOptions {
  readonly signature?: Signature;
  readonly model?: Model;
  readonly labels?: boolean;
  readonly limits?: Partial<ChunkLimits>;
  readonly places?: Places;
}

export class Trial {
  readonly folder: string;
  readonly engine: Engine;
  readonly inputs: LocalInputs;
  readonly target: Target;
  readonly objects: ObjectStore | undefined;
  work: WorkPlace;

  private constructor(folder: string, engine: Engine, objects: ObjectStore | undefined) {
    const scratchFolder = join(folder, 'scratch');
    this.folder = folder;
    this.engine = engine;
    this.objects = objects;
    this.inputs = new LocalInputs({ scratchFolder, objects });
    this.target = new Target({ scratchFolder, objects });
    this.work = new WorkFolder(join(folder, 'work'));
  }

  static async open({ objects }: { readonly objects?: ObjectStore } = {}): Promise<Trial> {
    const folder = await realpath(await mkdtemp(join(tmpdir(), 'millrace-backfill-')));
    // DuckDB touches its folder once more some time after it was closed: beside the trial's, which is gone by then.
    const engine = await Engine.open({ threads: 1, memoryBytes: 256 * 1024 * 1024, scratchFolder: join(tmpdir(), 'millrace-spill') });
    return new Trial(folder, engine, objects);
  }

  async close(): Promise<void> {
    await this.inputs.close();
    this.engine.close();
    await rm(this.folder, { recursive: true, force: true });
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  async put(name: string, content: string | Uint8Array): Promise<string> {
    await writeFile(this.path(name), content);
    return this.path(name);
  }

  async read(name: string): Promise<string> {
    return readFile(this.path(name), 'utf8');
  }

  /** Lines of NDJSON. */
  async readJson(name: string): Promise<Record<string, unknown>[]> {
    const text = await this.read(name);
    return text.split('\n').filter((line) => line !== '').map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** All names in the folder, hidden ones too. */
  async names(): Promise<string[]> {
    return (await readdir(this.folder)).filter((name) => !['work', 'scratch'].includes(name)).sort();
  }

  /** Writes a Parquet file from a SELECT. */
  async parquet(name: string, select: string, options = ''): Promise<string> {
    await this.engine.use((connection) => connection.run(`COPY (${select}) TO '${this.path(name)}' (FORMAT parquet${options})`));
    return this.path(name);
  }

  async query(sql: string): Promise<unknown[][]> {
    return this.engine.use(async (connection) => (await connection.runAndReadAll(sql)).getRowsJson() as unknown[][]);
  }

  check(data: BackfillData, { signature = pairs, labels = false, limits, places = Places.anywhere }: TrialOptions = {}): Promise<Plan> {
    const options: CheckOptions = { signature, labels, places, target: this.target, engine: this.engine, inputs: this.inputs, scratchFolder: join(this.folder, 'scratch'), objects: this.objects };
    const defaults = { rows: 16_384, bytes: 16 * 1024 * 1024, rowBytes: 16 * 1024 * 1024 };
    return checkBackfill(data, { ...options, limits: { ...defaults, ...limits } });
  }

  chunks(plan: Plan): AsyncGenerator<Chunk> {
    return stage(plan, { work: this.work, objects: this.objects });
  }

  open(plan: Plan, chunk: Chunk): Promise<OpenChunk> {
    return openChunk(plan, chunk, { work: this.work, engine: this.engine, inputs: this.inputs });
  }

  async runChunk(plan: Plan, chunk: Chunk, model: Model = addPairs): Promise<Part> {
    const open = await this.open(plan, chunk);
    try {
      return await writePart(plan, open, outcomeOf(open, model, plan), { work: this.work });
    } finally {
      await open.close();
    }
  }

  assemble(plan: Plan): Promise<Manifest> {
    return assemble(plan, { work: this.work, engine: this.engine, target: this.target, facts });
  }

  async run(data: BackfillData, options: TrialOptions = {}): Promise<Manifest> {
    const plan = await this.check(data, options);
    for await (const chunk of this.chunks(plan)) await this.runChunk(plan, chunk, options.model);
    return this.assemble(plan);
  }
}

export function outcomeOf({ groups }: Pick<OpenChunk, 'groups'>, model: Model, { labels }: Pick<Plan, 'labels'>): Outcome {
  return {
    failed: [],
    done: groups.map((group) => ({
      positions: positionsOf(group), outputs: model(group.tensors, group.rows),
      ...(labels && { labels: Array.from(positionsOf(group), (position) => `label ${position}`) }),
    })),
  };
}

export function positionsOf({ positions, rows }: RowGroup): Int32Array {
  return positions ? Int32Array.from(positions) : Int32Array.from({ length: rows }, (_, position) => position);
}
