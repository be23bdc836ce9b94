// From a claimed chunk of a backfill to its part: the worker's other story. Its pieces run in the same micro-batches' queue as
// predictions, behind them.
import type { ItemOutcome } from '@millrace/inference';
import type { Logger } from '@millrace/process';
import { type ChunkResult, giveBackAll, MillraceError } from '@millrace/protocol';
import { type ChunkClaim, type ChunkMarks, type Chunks, HandBack, type Span, type Suspicion, Work } from '@millrace/queue';
import type { ChunkHost } from './chunk-host.ts';
import type { ClaimReader } from './claim-reader.ts';
import { type ChunkPiece, HeldChunk } from './held-chunk.ts';
import type { WorkerMetrics } from './metrics.ts';
import { Pace } from './pace.ts';
import { fullRows, type PieceOwner } from './piece.ts';
import type { Runner } from './runner.ts';

export interface ChunkPredictorOptions {
  readonly host: ChunkHost;
  readonly reader: ClaimReader;
  readonly runner: Runner;
  readonly chunks: Chunks;
  readonly marks: ChunkMarks;
  readonly threads: number;
  readonly metrics: WorkerMetrics;
  readonly log: Logger;
}

/** A chunk that was lost so often is run alone and piece by piece: the first may have been killed from outside. */
const suspiciousLosses = 2;
/** Each culprit costs two losses more. A chunk with more of them than this bears ends its backfill. */
const mostLosses = 20;

export class ChunkPredictor implements PieceOwner {
  readonly name = 'chunks';
  readonly #options: ChunkPredictorOptions;
  readonly #pace = new Pace();
  /** In order of their claims. */
  readonly #held = new Set<HeldChunk>();
  #queuedRows = 0;

  constructor(options: ChunkPredictorOptions) {
    this.#options = options;
  }

  get claimedRows(): number {
    let rows = 0;
    for (const held of this.#held) rows += held.rowsLeft;
    return rows;
  }

  /** Resolves when the chunk is settled, by whomever; rejects with `HandBack` where the worker stops first. */
  async handle(claim: ChunkClaim): Promise<void> {
    const { chunks, marks, metrics } = this.#options;
    const { job: { chunk } } = claim;
    const [open, threadDeaths] = await Promise.all([chunks.isOpen(chunk), marks.threadDeaths(chunk)]);
    if (!open) return;
    const work = new Work();
    const result = await this.#resultOf(claim, claim.losses + threadDeaths, work);
    if (await chunks.settle(chunk, result, work)) metrics.chunkSettled(claim.job.model.name, result.ok ? 'succeeded' : 'failed');
  }

  /** Gives everything back that does not run. To be called when the runner has stopped. */
  stop(): void {
    for (const held of this.#held) this.#handBackIfStill(held);
  }

  begin(pieces: readonly ChunkPiece[]): void {
    for (const { held, rows } of pieces) {
      held.running++;
      if (!held.suspicious) this.#queuedRows -= rows;
    }
    this.#topUp();
  }

  async end(pieces: readonly ChunkPiece[], outcomes: readonly ItemOutcome[], alone: boolean): Promise<void> {
    for (const [place, piece] of pieces.entries()) {
      const { held, span } = piece;
      const outcome = outcomes[place] as ItemOutcome;
      held.running--;
      if (held.givenUp) continue;
      if (outcome.ok) {
        held.complete(span, outcome);
        this.#pace.ran(held.version, { rows: outcome.batchRows, ms: outcome.inferenceMs, maxRows: fullRows(held.version) });
      }
      else this.#fail(piece, outcome.error, alone);
      if (this.#options.runner.stopping) this.#handBackIfStill(held);
    }
    this.#topUp();
    this.#options.runner.pump();
  }

  /** Chunks have no deadline. */
  expire(): void {}

  nameOf({ held: { claim: { job: { chunk: { backfillId, chunk } } } }, span: { from, to } }: ChunkPiece): string {
    return `${backfillId} chunk ${chunk.index} rows ${from} to ${to}`;
  }

  async #resultOf(claim: ChunkClaim, losses: number, work: Work): Promise<ChunkResult> {
    const { log } = this.#options;
    const { job: { chunk: { backfillId, chunk: { index }, attempt } }, lost } = claim;
    try {
      return await this.#run(claim, losses, work);
    } catch (error) {
      if (error instanceof HandBack || lost.aborted) throw error;
      const expected = error instanceof MillraceError;
      const failure = expected ? error : new MillraceError('internal', 'The chunk could not be run');
      log[expected ? 'info' : 'error']({ err: error, backfillId, chunk: index, attempt }, 'chunk failed');
      return { ok: false, code: failure.code, detail: failure.message };
    }
  }

  async #run(claim: ChunkClaim, losses: number, work: Work): Promise<ChunkResult> {
    const { reader, host, metrics } = this.#options;
    const { job: { model, chunk: { backfillId, chunk } } } = claim;
    const startedAt = performance.now();
    const suspicion = await this.#suspicionOf(claim, losses);
    const version = await reader.version(model);
    if (version instanceof MillraceError) throw version;
    const { key, groups } = await host.open(backfillId, chunk);
    try {
      const readAt = performance.now();
      const held = new HeldChunk(this, { claim, version, groups, suspicion, work });
      for (const row of suspicion?.culprits ?? []) held.fail(row, killsWorkers);
      await this.#predict(held);
      const ranAt = performance.now();
      const outcome = held.outcome();
      const { rows, written } = await host.write(key, outcome);
      for (const { outputs } of outcome.done) giveBackAll(Object.values(outputs));
      metrics.chunkRan(model.name, { read: readAt - startedAt, run: ranAt - readAt, write: performance.now() - ranAt });
      return { ok: true, done: written, failed: rows - written };
    } finally {
      // Micro-batches have copies of it.
      for (const { tensors } of groups) giveBackAll(Object.values(tensors));
      await host.close(key);
    }
  }

  /** Resolves when every row of the chunk has an outcome. */
  async #predict(held: HeldChunk): Promise<void> {
    const { runner } = this.#options;
    const { lost } = held.claim;
    const onLost = () => this.#abandon(held, new Error('the claim was lost'));
    this.#held.add(held);
    lost.addEventListener('abort', onLost);
    try {
      held.endIfSettled();
      if (lost.aborted) onLost();
      if (runner.stopping) this.#handBackIfStill(held);
      if (held.suspicious) this.#suspectNext(held);
      this.#topUp();
      runner.pump();
      await held.ended;
    } finally {
      lost.removeEventListener('abort', onLost);
      this.#held.delete(held);
    }
  }

  /**
   * Keeps as much before the inference threads as they can take up at once: a chunk's other rows wait here, as views. While
   * online predictions come that is one small piece: what stands there already can neither be cut nor be held back.
   */
  #topUp(): void {
    const { runner, threads } = this.#options;
    for (const held of this.#held) {
      if (held.suspicious || runner.stopping) continue;
      const maxRows = fullRows(held.version);
      const [mostRows, ahead] = runner.quiet ? [maxRows, 2 * threads * maxRows] : [this.#pace.rowsBesideOnline(held.version, maxRows), 1];
      while (this.#queuedRows < ahead) {
        const piece = held.next(mostRows);
        if (!piece) break;
        this.#queuedRows += piece.rows;
        runner.add(piece);
      }
    }
  }

  #suspectNext(held: HeldChunk): void {
    const { runner } = this.#options;
    const piece = runner.stopping ? undefined : held.next(fullRows(held.version));
    if (!piece) return;
    const ended = () => {
      if (runner.stopping) this.#handBackIfStill(held);
      else this.#suspectNext(held);
    };
    runner.suspect({ held, lane: 'bulk', run: (run) => this.#runAlone(piece, run), ended });
  }

  /** Runs some rows, with nothing beside them, behind a mark: if this replica dies too, the mark says of what. */
  async #runAlone(piece: ChunkPiece, run: (piece: ChunkPiece) => Promise<void>): Promise<void> {
    const { marks, runner } = this.#options;
    const { held, held: { claim: { job: { chunk } } }, span } = piece;
    try {
      await marks.running(chunk, span);
      if (!held.givenUp && !runner.stopping) await run(piece);
      // Nothing waits for it: whoever gets the chunk next is told of that on the same connection, after this.
      marks.ran(chunk).catch(() => { /* what has ended is not looked for */ });
    } catch (error) {
      this.#abandon(held, error as Error);
    }
  }

  /** Finds the rows that are to blame; where none is, the chunk is given up, and its coordinator decides. */
  #fail({ held, span, rows }: ChunkPiece, error: MillraceError, alone: boolean): void {
    const { job: { lastAttempt } } = held.claim;
    switch (error.code) {
      case 'worker-crashed':
        if (alone && rows === 1) held.fail(span.from, killsWorkers);
        else void this.#threadDied(held, alone ? span : undefined);
        return;
      case 'model-failed':
      case 'out-of-memory':
        if (rows > 1) held.again(span);
        else if (error.code === 'model-failed' || lastAttempt) held.fail(span.from, error);
        else this.#abandon(held, error);
        return;
      default:
        this.#abandon(held, error);
    }
  }

  async #threadDied(held: HeldChunk, alone: Span | undefined): Promise<void> {
    try {
      await this.#options.marks.threadDied(held.claim.job.chunk, alone);
      this.#abandon(held, new HandBack('an inference thread died'));
    } catch (error) {
      this.#abandon(held, error as Error);
    }
  }

  /** Undefined where there is no reason for any. */
  async #suspicionOf({ job: { chunk } }: ChunkClaim, losses: number): Promise<Suspicion | undefined> {
    if (losses > 0) this.#options.metrics.orphaned();
    if (losses > mostLosses) throw new MillraceError('worker-crashed', `${losses} workers died while they ran rows ${chunk.chunk.firstRow} to ${chunk.chunk.firstRow + chunk.chunk.rows - 1}`);
    return losses < suspiciousLosses ? undefined : this.#options.marks.read(chunk);
  }

  #abandon(held: HeldChunk, error: Error): void {
    const { runner } = this.#options;
    runner.removeWhere((piece) => {
      const own = piece.owner === this && (piece as ChunkPiece).held === held;
      if (own) this.#queuedRows -= piece.rows;
      return own;
    });
    runner.acquit(held);
    held.giveUp(error);
  }

  #handBackIfStill(held: HeldChunk): void {
    if (held.running === 0 && !this.#options.runner.runsAlone(held)) held.giveUp(new HandBack('the worker is stopping'));
  }
}

const killsWorkers = new MillraceError('worker-crashed', 'Workers died while they ran this row, the last one running nothing beside it');
