// Runs pieces of claimed work: in micro-batches, online before bulk; and what is under suspicion with nothing beside it.
import { MicroBatcher } from '@millrace/batching';
import type { InferenceEngine, ItemOutcome } from '@millrace/inference';
import type { ModelVersion } from '@millrace/models';
import type { Logger, Tracer } from '@millrace/process';
import type { Lane } from '@millrace/protocol';
import { BatchTrace } from './batch-trace.ts';
import { groupKey } from './group-key.ts';
import type { WorkerMetrics } from './metrics.ts';
import { fullRows, type Piece } from './piece.ts';

export interface RunnerOptions {
  readonly engine: InferenceEngine;
  readonly metrics: WorkerMetrics;
  readonly log: Logger;
  readonly tracer: Tracer | undefined;
}

/** Something that may kill the replica. */
export interface Suspect {
  /** The claim that it is of. */
  readonly held: object;
  readonly lane: Lane;
  /** Called while nothing runs, and nothing does until it resolves but what it runs itself. Does not reject. */
  readonly run: (run: (piece: Piece) => Promise<void>) => Promise<void>;
  /** Others may run again. */
  readonly ended: () => void;
}

/** Online predictions come, until none has for so long. */
const quietMs = 1000;

export class Runner {
  readonly #options: RunnerOptions;
  readonly #batcher = new MicroBatcher<Piece, ModelVersion>((piece) => piece.owner.expire(piece));
  #suspects: Suspect[] = [];
  #alone: Suspect | undefined;
  #running = 0;
  #holdTimer: NodeJS.Timeout | undefined;
  #onlineAt = -Infinity;
  #stopping = false;

  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  /** No online predictions come. */
  get quiet(): boolean {
    return Date.now() - this.#onlineAt > quietMs;
  }

  /** Whether something waits to run alone, or does. */
  get suspicious(): boolean {
    return this.#alone !== undefined || this.#suspects.length > 0;
  }

  runsAlone(held: object): boolean {
    return this.#alone?.held === held;
  }

  /** Puts a piece before the inference threads; to be followed by `pump`. */
  add(piece: Piece): void {
    const { version, lane } = piece;
    if (lane === 'online') this.#onlineAt = Date.now();
    this.#batcher.add(groupKey(piece), piece, { version, maxRows: fullRows(version), maxDelayMs: version.manifest.batching.maxDelayMs });
  }

  /** Likewise, for what is to run alone. */
  suspect(suspect: Suspect): void {
    this.#suspects.push(suspect);
  }

  /** Takes out pieces that need not run any more. */
  removeWhere(dead: (piece: Piece) => boolean): void {
    this.#batcher.removeWhere(dead);
  }

  /** Forgets the suspects of a claim. */
  acquit(held: object): void {
    this.#suspects = this.#suspects.filter((suspect) => suspect.held !== held);
  }

  /** Starts what may run now. To be called whenever a thread may have become free. */
  pump(): void {
    clearTimeout(this.#holdTimer);
    if (this.#stopping || this.#alone) return;
    const [suspect] = this.#suspects;
    // Bulk yields, also where it is under suspicion.
    const yields = suspect?.lane === 'bulk' && this.#batcher.rowsOf('online') > 0;
    if (suspect && !yields) {
      if (this.#running === 0) void this.#runAlone(suspect);
      return;
    }
    const { engine } = this.#options;
    // While online predictions come, no bulk micro-batch is prepared behind one that runs: they would wait for both.
    const { quiet } = this;
    for (;;) {
      const next = this.#batcher.next(Date.now(), (version, full, lane) => (lane === 'online' ? engine.canTake(version, full) : !suspect && engine.canTake(version, full && quiet)));
      if (next.kind === 'hold') this.#holdTimer = setTimeout(() => this.pump(), next.ms);
      if (next.kind !== 'run') return;
      void this.#run(next.batch.version, next.batch.items);
    }
  }

  /** Starts nothing more; what runs goes on. */
  stop(): void {
    this.#stopping = true;
    clearTimeout(this.#holdTimer);
    this.#batcher.removeWhere(() => true);
    this.#suspects = [];
  }

  async #runAlone(suspect: Suspect): Promise<void> {
    this.#suspects.shift();
    this.#alone = suspect;
    await suspect.run((piece) => this.#run(piece.version, [piece]));
    this.#alone = undefined;
    suspect.ended();
    this.pump();
  }

  /** Resolves when the micro-batch has run and its pieces' owners have dealt with what came of it. */
  async #run(version: ModelVersion, pieces: readonly Piece[]): Promise<void> {
    const startedAt = Date.now();
    const alone = this.#alone !== undefined;
    const { owner } = pieces[0] as Piece;
    const { engine, tracer } = this.#options;
    this.#running++;
    owner.begin(pieces, startedAt);
    this.#log(version, pieces, alone);
    const trace = tracer && BatchTrace.begin(tracer, version, pieces, startedAt);
    const outcomes = await engine.run(version, pieces);
    this.#running--;
    this.pump();
    this.#measure(version, pieces, startedAt, outcomes);
    trace?.ran();
    await owner.end(pieces, outcomes, alone);
    trace?.ended(outcomes);
  }

  #log(version: ModelVersion, pieces: readonly Piece[], alone: boolean): void {
    const { log } = this.#options;
    if (!log.isLevelEnabled('debug')) return;
    log.debug({ model: version.id.name, pieces: pieces.map((piece) => piece.owner.nameOf(piece)), alone }, 'micro-batch runs');
  }

  #measure(version: ModelVersion, pieces: readonly Piece[], startedAt: number, outcomes: readonly ItemOutcome[]): void {
    const ran = outcomes.find((outcome) => outcome.ok);
    if (!ran) return;
    let rows = 0;
    let oldestAt = Infinity;
    for (const piece of pieces) {
      rows += piece.rows;
      oldestAt = Math.min(oldestAt, piece.arrivedAt);
    }
    const maxRows = version.batched ? version.manifest.batching.maxRows : rows;
    this.#options.metrics.of(version.id).ran({ rows, maxRows, inferenceSeconds: ran.inferenceMs / 1000, assemblySeconds: (startedAt - oldestAt) / 1000 });
  }
}
