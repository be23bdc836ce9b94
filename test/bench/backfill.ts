// Bulk backfills, measured in rounds: in each round everything is measured once, so that drift of the machine's speed touches
// all alike. Medians over the rounds; memory once. Each figure is of a whole backfill, from the request over HTTP to the output.
import { execFile } from 'node:child_process';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { checkOutput, largestDifference, type OutputCheck, writeDigits } from './backfill-files.ts';
import { BackfillSystem, type BackfillTask } from './backfill-rig.ts';
import { TaskProcess } from './children.ts';
import { percentile, round } from './figures.ts';
import type { OpenLoopResult, OpenLoopTask } from './open-loop.ts';

/** The least that is asked of a figure, or the most. */
const asked = { ratio_raw: 0.85, csv_ratio: 4, online_p99_ratio: 2, worker_scaling: 1.9, rss_ratio: 1.3 } as const;

export interface BackfillFigures {
  readonly ratio_raw: number;
  readonly heavy_rows_per_second: number;
  readonly heavy_bare_rows_per_second: number;
  readonly rows_per_second_csv: number;
  /** These two are absent where no Python has what they take. */
  readonly pandas_rows_per_second?: number;
  readonly csv_ratio?: number;
  readonly online_p99_ratio: number;
  readonly online_p99_ms: number;
  readonly online_p99_ms_beside_backfill: number;
  readonly worker_scaling: number;
  readonly waiting_rows_per_second: number;
  readonly rss_ratio: number;
  /** The most memory of each process, by the rows of the input. */
  readonly rss_mib: Readonly<Record<string, Readonly<Record<string, number>>>>;
  readonly asked: typeof asked;
  readonly lost: number;
  readonly doubled: number;
}

export interface BackfillOptions {
  readonly quick: boolean;
  readonly redisServer: string | undefined;
  /** A Python with pandas and scikit-learn, for the usual way. */
  readonly python: string;
  readonly show: (text: string) => void;
}

const cores = availableParallelism();
const at = (name: string) => fileURLToPath(new URL(name, import.meta.url));
const bundledModels = at('../../deploy/models');
const ownModels = at('models');
/** A third of what one thread can do, one row at a time. */
const onlinePerSecond = 200;
const onlineBody = JSON.stringify({ model: 'digits-deep', inputs: [Array.from({ length: 64 }, (_, pixel) => pixel % 17)] });
/** Small enough that neither worker is left without one at the end, and that some are done while online predictions are measured. */
const chunkRows = 1024;

/** Rows of each input; seconds of bare loop and online load. */
function extent(quick: boolean) {
  return quick
    ? { rounds: 1, heavy: 10_240, bare: 0.7, csv: 130_000, online: 2, waiting: 38_912, small: 20_000, large: 60_000 }
    : { rounds: 3, heavy: 60_000, bare: 5, csv: 300_000, online: 15, waiting: 200_000, small: 100_000, large: 5_000_000 };
}

type Extent = ReturnType<typeof extent>;

export async function backfill({ quick, redisServer, python, show }: BackfillOptions): Promise<BackfillFigures> {
  const amount = extent(quick);
  const folder = await mkdtemp(path.join(tmpdir(), 'millrace-bench-'));
  try {
    show(`Backfills, ${amount.rounds} ${amount.rounds === 1 ? 'round' : 'rounds'}, ${cores} cores, Node ${process.version}\n`);
    const scale = new Scale({ redisServer, folder, models: await copyModels(folder), python: await findPandas(python, show), show }, amount);
    await scale.speed();
    await scale.online();
    await scale.waiting();
    await scale.memory();
    const figures = scale.figures();
    show(table(figures));
    return figures;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function copyModels(folder: string): Promise<string> {
  const models = path.join(folder, 'models');
  await cp(path.join(bundledModels, 'digits-deep'), path.join(models, 'digits-deep'), { recursive: true });
  await cp(path.join(ownModels, 'digits-mlp'), path.join(models, 'digits-mlp'), { recursive: true });
  return models;
}

async function findPandas(python: string, show: (text: string) => void): Promise<string | undefined> {
  try {
    await promisify(execFile)(python, ['-c', 'import importlib.util as u; assert u.find_spec("pandas") and u.find_spec("sklearn")']);
    return python;
  } catch {
    show(`${python} has no pandas and scikit-learn: the usual way is skipped (--python names another)\n`);
    return undefined;
  }
}

interface Setting {
  readonly redisServer: string | undefined;
  readonly folder: string;
  readonly models: string;
  readonly python: string | undefined;
  readonly show: (text: string) => void;
}

type Series = 'ratio_raw' | 'heavy_rows_per_second' | 'heavy_bare_rows_per_second' | 'rows_per_second_csv' | 'pandas_rows_per_second' | 'csv_ratio'
  | 'online_p99_ratio' | 'online_p99_ms' | 'online_p99_ms_beside_backfill' | 'worker_scaling' | 'waiting_rows_per_second';

/** Takes the measurements and looks at every output. */
class Scale {
  readonly #setting: Setting;
  readonly #amount: Extent;
  readonly #series = new Map<Series, number[]>();
  readonly #rss: Record<string, Readonly<Record<string, number>>> = {};
  #lost = 0;
  #doubled = 0;

  constructor(setting: Setting, amount: Extent) {
    this.#setting = setting;
    this.#amount = amount;
  }

  /** One worker with as many inference threads as there are cores, against bare loops and against pandas. */
  async speed(): Promise<void> {
    const { folder, python } = this.#setting;
    const { rounds, heavy, bare, csv } = this.#amount;
    const [heavyFile, csvFile] = [await writeDigits(folder, heavy, 'parquet'), await writeDigits(folder, csv, 'csv')];
    const model = path.join(bundledModels, 'digits-deep/1/model.onnx');
    const loops = await Promise.all(Array.from({ length: cores }, () => TaskProcess.start<number, { rowsPerSecond: number }>('bare-session.ts', [model, 'image'])));
    const bareRate = async () => (await Promise.all(loops.map((loop) => loop.do(1000 * bare)))).reduce((sum, { rowsPerSecond }) => sum + rowsPerSecond, 0);
    const system = await this.#start({ workers: 1, inferenceThreads: cores });
    try {
      await this.#rate(system, { model: 'digits-mlp', input: csvFile, output: 'warm-up.csv' }, csv);
      for (let turn = 0; turn < rounds; turn++) {
        const before = await bareRate();
        const through = await this.#rate(system, { model: 'digits-deep', input: heavyFile, output: 'heavy.parquet' }, heavy);
        const without = (before + await bareRate()) / 2;
        this.#note({ heavy_rows_per_second: through, heavy_bare_rows_per_second: without, ratio_raw: through / without });
        const ours = await this.#rate(system, { model: 'digits-mlp', input: csvFile, output: 'ours.csv' }, csv);
        this.#note({ rows_per_second_csv: ours });
        if (python !== undefined) await this.#pandas(python, csvFile, ours);
        this.#show(turn, ['heavy_rows_per_second', 'heavy_bare_rows_per_second', 'rows_per_second_csv', 'pandas_rows_per_second']);
      }
    } finally {
      for (const loop of loops) loop.stop();
      await system.stop();
    }
  }

  /** Its own clock, without the start of Python, and its probabilities against ours. */
  async #pandas(python: string, csvFile: string, ours: number): Promise<void> {
    const { folder } = this.#setting;
    const output = path.join(folder, 'pandas.csv');
    const { stdout } = await promisify(execFile)(python, [at('pandas_way.py'), path.join(ownModels, 'digits-mlp/weights.npz'), csvFile, output]);
    const theirs = this.#amount.csv / Number(stdout);
    this.#note({ pandas_rows_per_second: theirs, csv_ratio: ours / theirs });
    const off = await largestDifference(output, path.join(folder, 'ours.csv'));
    if (off > 1e-4) throw new Error(`pandas' way predicts something else: the probabilities differ by ${off}`);
  }

  /** The heavy model online, and then beside a backfill of the same model, from its request on. */
  async online(): Promise<void> {
    const { folder } = this.#setting;
    const { rounds, csv, online: seconds } = this.#amount;
    const input = path.join(folder, `digits-${csv}.csv`);
    const system = await this.#start({ workers: 1, inferenceThreads: 1 });
    const load = await TaskProcess.start<OpenLoopTask, OpenLoopResult>('open-loop.ts');
    const p99 = async (forSeconds: number) => {
      const { latenciesMs, bad } = await load.do({ url: system.system.url, body: onlineBody, perSecond: onlinePerSecond, seconds: forSeconds });
      this.#lost += bad;
      return percentile(latenciesMs, 0.99);
    };
    const besideBackfill = async (forSeconds: number) => {
      const { id } = await system.create({ model: 'digits-deep', input, output: 'beside.csv', chunkRows });
      const beside = await p99(forSeconds);
      const { status, rows } = await system.client.askBackfill(id, 'cancel');
      if (status !== 'staging' && status !== 'running') throw new Error(`the backfill was ${status} at ${rows.done} rows while online predictions were measured`);
      await system.comesTo(id, ['canceled']);
      return beside;
    };
    try {
      // What has never run is slow, here and there.
      await besideBackfill(1);
      for (let turn = 0; turn < rounds; turn++) {
        const calm = await p99(seconds);
        const beside = await besideBackfill(seconds);
        this.#note({ online_p99_ms: calm, online_p99_ms_beside_backfill: beside, online_p99_ratio: beside / calm });
        this.#show(turn, ['online_p99_ms', 'online_p99_ms_beside_backfill']);
      }
    } finally {
      load.stop();
      await system.stop();
    }
  }

  /** One worker and two, whose model takes time and no CPU. */
  async waiting(): Promise<void> {
    const { folder } = this.#setting;
    const { rounds, waiting: rows } = this.#amount;
    const input = await writeDigits(folder, rows, 'parquet');
    const systems = await Promise.all([1, 2].map((workers) => this.#start({ workers, inferenceThreads: 1, slow: true }))) as [BackfillSystem, BackfillSystem];
    const task: BackfillTask = { model: 'digits-mlp', input, output: 'waiting.parquet', chunkRows };
    try {
      for (let turn = 0; turn < rounds; turn++) {
        const [one, two] = [await this.#rate(systems[0], task, rows), await this.#rate(systems[1], task, rows)];
        this.#note({ waiting_rows_per_second: one, worker_scaling: two / one });
        this.#show(turn, ['waiting_rows_per_second', 'worker_scaling']);
      }
    } finally {
      await Promise.all(systems.map((system) => system.stop()));
    }
  }

  /** The most that fresh processes ever had after the small one, and after the large one: CSV in, and Parquet out, which DuckDB puts together. */
  async memory(): Promise<void> {
    const { folder } = this.#setting;
    const { small, large } = this.#amount;
    const system = await this.#start({ workers: 1, inferenceThreads: cores });
    try {
      for (const rows of [small, large]) {
        const input = await writeDigits(folder, rows, 'csv');
        await this.#rate(system, { model: 'digits-mlp', input, output: `memory-${rows}.parquet` }, rows);
        this.#rss[rows] = await system.peakMib();
        await rm(input);
      }
    } finally {
      await system.stop();
    }
  }

  figures(): BackfillFigures {
    const medians = Object.fromEntries([...this.#series].map(([name, values]) => [name, round(percentile(values, 0.5))])) as Record<Series, number>;
    const [small = {}, large = {}] = Object.values(this.#rss);
    const rss_ratio = round(Math.max(...Object.entries(large).map(([name, mib]) => mib / (small[name] as number))));
    return { ...medians, rss_ratio, rss_mib: this.#rss, asked, lost: this.#lost, doubled: this.#doubled };
  }

  /** Rows per second of one backfill, whose output is then looked at. */
  async #rate(system: BackfillSystem, task: BackfillTask, rows: number): Promise<number> {
    const seconds = await system.run(task);
    const { lost, doubled }: OutputCheck = await checkOutput(path.join(this.#setting.folder, task.output), rows);
    this.#lost += lost;
    this.#doubled += doubled;
    return rows / seconds;
  }

  #start({ slow = false, ...counts }: { readonly workers: number; readonly inferenceThreads: number; readonly slow?: boolean }): Promise<BackfillSystem> {
    const { redisServer, models, folder } = this.#setting;
    return BackfillSystem.start({ redisServer, models, folder, ...counts, ...(slow && { workerNodeArgs: ['--import', at('slow-device.ts')] }) });
  }

  #note(values: Partial<Record<Series, number>>): void {
    for (const [name, value] of Object.entries(values) as [Series, number][]) this.#series.set(name, [...this.#series.get(name) ?? [], value]);
  }

  #show(turn: number, names: readonly Series[]): void {
    const told = names.flatMap((name) => (this.#series.has(name) ? [`${name} ${round(this.#series.get(name)?.at(-1) ?? NaN)}`] : []));
    this.#setting.show(`  round ${turn + 1}: ${told.join(', ')}\n`);
  }
}

function table(figures: BackfillFigures): string {
  const row = (name: string, value: string, ratio = '') => `  ${name.padEnd(62)} ${value.padStart(9)}  ${ratio}\n`;
  const { pandas_rows_per_second: pandas, csv_ratio: csvRatio, rss_mib: rss } = figures;
  const [small = '', large = ''] = Object.keys(rss);
  return `\n${[
    row('heavy model, Parquet to Parquet, rows/s', figures.heavy_rows_per_second.toFixed(0), `${figures.ratio_raw.toFixed(2)} × bare, at least ${asked.ratio_raw}`),
    row(`heavy model, bare session.run, ${cores} threads, rows/s`, figures.heavy_bare_rows_per_second.toFixed(0)),
    row('perceptron, CSV to CSV, rows/s', figures.rows_per_second_csv.toFixed(0), csvRatio === undefined ? '' : `${csvRatio.toFixed(2)} × pandas, at least ${asked.csv_ratio}`),
    row('perceptron, pandas and scikit-learn, rows/s', pandas?.toFixed(0) ?? 'skipped'),
    row(`online at ${onlinePerSecond}/s, p99 ms`, figures.online_p99_ms.toFixed(1)),
    row('the same beside a backfill, p99 ms', figures.online_p99_ms_beside_backfill.toFixed(1), `${figures.online_p99_ratio.toFixed(2)} × without, at most ${asked.online_p99_ratio}`),
    row('a model that waits, one worker, rows/s', figures.waiting_rows_per_second.toFixed(0)),
    row('the same with two', (figures.waiting_rows_per_second * figures.worker_scaling).toFixed(0), `${figures.worker_scaling.toFixed(2)} × one, at least ${asked.worker_scaling}`),
    ...Object.keys(rss[large] ?? {}).map((name) => row(`${name}, most memory at ${large} rows, MiB`, (rss[large]?.[name] ?? NaN).toFixed(0),
      `${((rss[large]?.[name] ?? NaN) / (rss[small]?.[name] ?? NaN)).toFixed(2)} × at ${small} rows, at most ${asked.rss_ratio}`)),
    row('lost', String(figures.lost)),
    row('doubled', String(figures.doubled)),
  ].join('')}\n`;
}
