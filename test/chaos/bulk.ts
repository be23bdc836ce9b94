// A backfill under faults: its input is made of cases whose outputs are known, and every row of its output is compared.
import { mkdir, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Backfill } from '@millrace/protocol';
import { Client } from '../../apps/cli/src/client.ts';
import { until } from '../integration/until.ts';
import type { Case } from './cases.ts';

const pixels = Array.from({ length: 64 }, (_, pixel) => `p${pixel}`);
const tolerance = 1e-5;
/** Every fault that falls on a chunk takes it 16 s to come back. */
const limitSeconds = 1200;

export class Bulk {
  readonly folder: string;
  /** For all the processes. */
  readonly env: Readonly<Record<string, string>>;

  private constructor(folder: string) {
    const files = path.join(folder, 'files');
    this.folder = folder;
    this.env = { MILLRACE_BACKFILL_WORK: path.join(folder, 'work'), MILLRACE_BACKFILL_INPUTS: files, MILLRACE_BACKFILL_OUTPUTS: files };
  }

  static async open(): Promise<Bulk> {
    const bulk = new Bulk(await mkdtemp(path.join(tmpdir(), 'millrace-chaos-bulk-')));
    for (const name of ['work', 'files']) await mkdir(path.join(bulk.folder, name));
    return bulk;
  }

  /** All the images of these cases, one after another and again; `n` says which row it is. */
  async begin(url: string, { model, cases, rows, chunkRows }: { readonly model: string; readonly cases: readonly Case[]; readonly rows: number; readonly chunkRows: number }): Promise<RunningBackfill> {
    const lines = cases.flatMap(({ inputs }) => (inputs['image'] as number[][]).map((image) => image.join()));
    const [input, output] = [path.join(this.folder, 'files/in.csv'), path.join(this.folder, 'files/out.csv')];
    await writeFile(input, function* csv() {
      yield `n,${pixels.join()}\n`;
      for (let row = 0; row < rows; row++) yield `${row},${lines[row % lines.length]}\n`;
    }());
    const client = new Client(url);
    const { id } = await client.createBackfill({ model, input: { uri: input }, output: { uri: output }, mapping: { image: pixels }, carry: ['n'], chunk_rows: chunkRows, max_attempts: 10 });
    return new RunningBackfill(client, id, { expected: cases.flatMap(({ expected }) => expected['probabilities'] as number[][]), rows, output });
  }

  async close(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true });
  }
}

interface Content {
  /** Of each image, again and again. */
  readonly expected: readonly number[][];
  readonly rows: number;
  readonly output: string;
}

export class RunningBackfill {
  readonly #client: Client;
  readonly #id: string;
  readonly #content: Content;

  constructor(client: Client, id: string, content: Content) {
    this.#client = client;
    this.#id = id;
    this.#content = content;
  }

  /** Resolves when so large a share of its rows is done; whether it still runs. */
  async untilDone(share: number): Promise<boolean> {
    const { status } = await this.#until(({ rows: { done } }) => done >= share * this.#content.rows, `${100 * share} % of the backfill`);
    return status !== 'completed';
  }

  /** Throws where it does not complete, or a row is lost, doubled, not in its place, or not what the direct computation gives. */
  async check(): Promise<void> {
    const { rows: all, expected } = this.#content;
    const { status, rows, error } = await this.#until(() => false, 'the end of the backfill');
    if (status !== 'completed' || rows.done !== all || rows.failed !== 0) throw new Error(`the backfill is ${status} with ${JSON.stringify(rows)} ${JSON.stringify(error)}`);
    let row = -1;
    for await (const line of (await open(this.#content.output)).readLines()) {
      const [number, n, ...outputs] = line.split(',').map(Number);
      const wanted = expected[row % expected.length] ?? [];
      // Behind the probabilities stands the label.
      const right = number === row + 1 && n === row && outputs.length === wanted.length + 1 && wanted.every((value, digit) => Math.abs(value - (outputs[digit] as number)) < tolerance);
      // The first line is the header.
      if (row >= 0 && !right) throw new Error(`line ${row + 2} of the backfill's output is wrong: ${line}`);
      row++;
    }
    if (row !== all) throw new Error(`the backfill's output has ${row} rows, and its input ${all}`);
  }

  /** Looks until the condition holds, or it has ended; while Redis is away nobody can tell. */
  #until(holds: (backfill: Backfill) => boolean, what: string): Promise<Backfill> {
    return until(async () => {
      const backfill = await this.#client.backfill(this.#id).catch(() => undefined);
      return backfill && (['completed', 'failed', 'canceled'].includes(backfill.status) || holds(backfill)) && backfill;
    }, what, limitSeconds);
  }
}
