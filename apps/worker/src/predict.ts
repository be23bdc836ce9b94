// From a claimed bundle to settled predictions: the worker's story.
import type { ItemOutcome } from '@millrace/inference';
import type { ModelVersion } from '@millrace/models';
import type { Logger } from '@millrace/process';
import { MillraceError, parsePredictionId, predictionId } from '@millrace/protocol';
import { type BundleMarks, type Cancellations, type Claim, HandBack, type Marks, type Payloads, type Settlement, type Settler } from '@millrace/queue';
import { Appetite } from './appetite.ts';
import type { ClaimReader } from './claim-reader.ts';
import { HeldBundle, type PredictionPiece, type Progress } from './held-bundle.ts';
import type { WorkerMetrics } from './metrics.ts';
import type { Piece, PieceOwner } from './piece.ts';
import { retryDelayMs } from './retry-delay.ts';
import type { Runner } from './runner.ts';
import type { Starts } from './starts.ts';

export interface PredictorOptions {
  readonly reader: ClaimReader;
  readonly payloads: Payloads;
  readonly log: Logger;
  readonly runner: Runner;
  readonly settler: Settler;
  readonly marks: Marks;
  readonly cancellations: Cancellations;
  readonly threads: number;
  readonly metrics: WorkerMetrics;
  readonly starts: Starts;
  /** Told how many bundles to hold, after every micro-batch. */
  readonly onAppetite: (bundles: number) => void;
}

export class Predictor implements PieceOwner {
  readonly name = 'predictions';
  readonly #options: PredictorOptions;
  readonly #appetite: Appetite;
  /** By job. */
  readonly #held = new Map<string, HeldBundle>();

  constructor(options: PredictorOptions) {
    this.#options = options;
    this.#appetite = new Appetite(options.threads);
  }

  get claimedRows(): number {
    let rows = 0;
    for (const held of this.#held.values()) rows += held.rowsLeft;
    return rows;
  }

  /** Resolves when every prediction of the claimed bundle is settled; rejects with `HandBack` where the worker stops first. */
  async handle(claim: Claim): Promise<void> {
    const held = new HeldBundle(claim);
    this.#held.set(claim.jobId, held);
    const onLost = () => {
      this.#options.log.warn({ predictionIds: held.unsettledIds }, 'claim lost, another worker will run it');
      this.#abandon(held, new Error('the claim was lost'));
    };
    claim.lost.addEventListener('abort', onLost);
    try {
      await this.#take(held);
      held.endIfSettled();
      if (this.#options.runner.stopping) this.#handBackIfStill(held);
      this.#options.runner.pump();
      await held.ended;
    } finally {
      claim.lost.removeEventListener('abort', onLost);
      // After an outage this process may have claimed its own job again meanwhile.
      if (this.#held.get(claim.jobId) === held) this.#held.delete(claim.jobId);
    }
  }

  /** A prediction was settled as canceled by an API node: it need not run. */
  cancel(id: string): void {
    const address = parsePredictionId(id);
    for (const held of this.#held.values()) {
      if (address && held.claim.bundleId === address.bundleId) held.markSettled(address.index);
    }
    this.#options.runner.removeWhere((piece) => this.#isOwn(piece) && piece.progress.state === 'settled');
  }

  /** Gives everything back that does not run. To be called when the runner has stopped. */
  stop(): void {
    for (const held of this.#held.values()) this.#handBackIfStill(held);
  }

  /** Decodes the bundle's unsettled predictions and puts their pieces before the inference threads. */
  async #take(held: HeldBundle): Promise<void> {
    const { claim, claim: { predictions, orphaned } } = held;
    const marks = await this.#marksOf(claim);
    const open = [...predictions.keys()].filter((index) => !marks.done.has(index)).map((index) => held.open(index));
    let rows = 0;
    for (const prediction of predictions.values()) rows += prediction.rows;
    this.#appetite.claimed(rows);
    if (orphaned) this.#options.metrics.orphaned();

    const crashed = open.filter(({ index }) => marks.crashed.has(index));
    await this.#settle(held, crashed.map((progress) => held.end(progress, 'failed', workerCrashed)));
    const version = await this.#options.reader.version(claim.bundle.model);
    for (const progress of open) {
      const pieces = version instanceof MillraceError ? version : await this.#piecesOf(held, progress, version);
      if (held.givenUp) return;
      // Ended above, or canceled while its inputs were read.
      if (progress.state !== 'open') continue;
      if (pieces instanceof MillraceError) await this.#fail(held, progress, pieces, false);
      else if (orphaned || marks.suspect) this.#suspectPieces(held, pieces);
      else for (const piece of pieces) this.#options.runner.add(piece);
    }
  }

  async #piecesOf(held: HeldBundle, progress: Progress, version: ModelVersion): Promise<readonly PredictionPiece[] | MillraceError> {
    const inputs = await this.#options.reader.inputs(held.claim, progress);
    return inputs instanceof MillraceError ? inputs : held.cut(this, { progress, inputs, version });
  }

  /** What need not run any more. Redis is only asked where a cancellation or an earlier claim may have been missed here. */
  async #marksOf(claim: Claim): Promise<BundleMarks> {
    const { cancellations, marks } = this.#options;
    const { bundleId, predictions, claimedBefore, attempt } = claim;
    const bundledAt = parsePredictionId(predictionId(bundleId, 0))?.bundledAt ?? 0;
    if (claimedBefore || attempt > 1 || !cancellations.covers(bundledAt)) return marks.read(claim);
    if (cancellations.isEmpty) return unmarked;
    return { ...unmarked, done: new Set([...predictions.keys()].filter((index) => cancellations.has(predictionId(bundleId, index)))) };
  }

  begin(pieces: readonly PredictionPiece[], startedAt: number): void {
    const { starts } = this.#options;
    const begun = new Map<Claim, number[]>();
    for (const { held, held: { claim }, progress } of pieces) {
      held.running++;
      if (progress.startedAt !== undefined) continue;
      progress.startedAt = startedAt;
      if (!starts.wanted(claim, progress.prediction)) continue;
      const indexes = begun.get(claim);
      if (indexes) indexes.push(progress.index);
      else begun.set(claim, [progress.index]);
    }
    for (const [claim, indexes] of begun) starts.tell(claim, indexes, startedAt);
  }

  async end(pieces: readonly PredictionPiece[], outcomes: readonly ItemOutcome[], alone: boolean): Promise<void> {
    this.#measure(pieces, outcomes);
    const settlements = new Map<HeldBundle, Settlement[]>();
    const failures: Promise<void>[] = [];
    for (const [place, piece] of pieces.entries()) {
      const { held, progress } = piece;
      const outcome = outcomes[place] as ItemOutcome;
      held.running--;
      let ofBundle = settlements.get(held);
      if (!ofBundle) settlements.set(held, ofBundle = []);
      if (progress.state !== 'open') continue;
      const settlement = outcome.ok ? held.complete(piece, outcome) : undefined;
      if (settlement) ofBundle.push(settlement);
      else if (!outcome.ok) failures.push(this.#fail(held, progress, outcome.error, alone));
    }
    await Promise.all([...failures, ...[...settlements].map(([held, ofBundle]) => this.#settle(held, ofBundle))]);
  }

  expire(piece: PredictionPiece): void {
    const { held, progress } = piece;
    // Once the first piece of a prediction has started, the others may take their time.
    if (progress.startedAt !== undefined) this.#options.runner.add({ ...piece, deadlineAt: undefined });
    else if (progress.state === 'open') void this.#settle(held, [held.end(progress, held.claim.attempt > 1 ? 'failed' : 'expired', expired)]);
  }

  nameOf({ held, progress }: PredictionPiece): string {
    return predictionId(held.claim.bundleId, progress.index);
  }

  /** A replica died with them: they run one prediction at a time, and nothing runs beside them. */
  #suspectPieces(held: HeldBundle, pieces: readonly PredictionPiece[]): void {
    const { runner } = this.#options;
    const ended = () => { if (runner.stopping) this.#handBackIfStill(held); };
    runner.suspect({ held, lane: held.claim.bundle.lane, run: (run) => this.#runAlone(pieces, run), ended });
  }

  /** Runs one prediction, with nothing beside it, behind a mark: if this replica dies too, the mark says of what. */
  async #runAlone(pieces: readonly PredictionPiece[], run: (piece: PredictionPiece) => Promise<void>): Promise<void> {
    const { marks, runner } = this.#options;
    const [{ held, held: { claim: { bundleId } }, progress, progress: { index, prediction } }] = pieces as readonly [PredictionPiece];
    try {
      if ((prediction.deadlineAt ?? Infinity) <= Date.now()) this.expire(pieces[0] as PredictionPiece);
      if (progress.state !== 'open') return;
      await marks.running(bundleId, index);
      for (const piece of pieces) if (progress.state === 'open' && !runner.stopping) await run(piece);
      // Nothing waits for it: whoever gets the bundle next is told of that on the same connection, after this.
      marks.ran(bundleId, index).catch(() => { /* what has ended is not looked for */ });
    } catch (error) {
      this.#abandon(held, error as Error);
    }
  }

  /** Ends a prediction that failed; where the failure may pass, queues it again instead. */
  async #fail(held: HeldBundle, progress: Progress, error: MillraceError, alone: boolean): Promise<void> {
    const { marks, metrics } = this.#options;
    const { claim, claim: { attempt, bundle } } = held;
    const { prediction, index } = progress;
    if (progress.state !== 'open') return;
    if (error.code === 'worker-crashed' && !alone) return this.#suspect(held);
    const delayMs = retryDelayMs({ error, attempt, prediction, now: Date.now(), random: Math.random() });
    if (delayMs === undefined) return this.#settle(held, [held.end(progress, 'failed', error)]);
    progress.state = 'decided';
    try {
      await marks.retry(claim, index, prediction, delayMs);
    } catch (cause) {
      return this.#abandon(held, cause as Error);
    }
    metrics.retried(bundle.model.name, error.code);
    held.markSettled(index);
  }

  /** An inference thread died with something of the bundle: it is given back, to be run one by one. */
  async #suspect(held: HeldBundle): Promise<void> {
    try {
      await this.#options.marks.suspect(held.claim.bundleId);
      this.#abandon(held, new HandBack('an inference thread died'));
    } catch (error) {
      this.#abandon(held, error as Error);
    }
  }

  /** Writes results; the first write of each wins. Where Redis refuses, the bundle is given up here and tried again. */
  async #settle(held: HeldBundle, settlements: readonly Settlement[]): Promise<void> {
    const { settler, payloads } = this.#options;
    const { bundleId, bundle: { tenant, replyTo, model }, predictions } = held.claim;
    if (settlements.length > 0) {
      const metrics = this.#options.metrics.of(model);
      const startedAt = performance.now();
      try {
        const fresh = await settler.settle({ bundleId, tenant, replyTo }, settlements, { work: held.work });
        for (const { index, record } of settlements) if (fresh.has(index)) metrics.settled(record);
      } catch (error) {
        return this.#abandon(held, error as Error);
      }
      metrics.published((performance.now() - startedAt) / 1000);
      for (const { index } of settlements) {
        if (predictions.get(index)?.detached) payloads.remove(bundleId, index);
        held.markSettled(index);
      }
    }
    if (this.#options.runner.stopping) this.#handBackIfStill(held);
  }

  /** Gives a bundle up: whoever claims it next finds what is settled and goes on. */
  #abandon(held: HeldBundle, error: Error): void {
    const { runner } = this.#options;
    runner.removeWhere((piece) => this.#isOwn(piece) && piece.held === held);
    runner.acquit(held);
    held.giveUp(error);
  }

  #handBackIfStill(held: HeldBundle): void {
    if (held.running === 0 && !this.#options.runner.runsAlone(held)) held.giveUp(new HandBack('the worker is stopping'));
  }

  #isOwn(piece: Piece): piece is PredictionPiece {
    return piece.owner === this;
  }

  #measure(pieces: readonly PredictionPiece[], outcomes: readonly ItemOutcome[]): void {
    const ran = outcomes.find((outcome) => outcome.ok);
    if (!ran) return;
    const { onAppetite, runner } = this.#options;
    this.#appetite.ran(ran.batchRows, ran.inferenceMs / 1000);
    // What is claimed behind suspects would only wait, and be orphaned with them if this replica dies too.
    const { version } = pieces[0] as PredictionPiece;
    onAppetite(runner.suspicious ? 1 : this.#appetite.bundles(version.manifest.batching.maxRows));
  }
}

const unmarked: BundleMarks = { done: new Set(), crashed: new Set(), suspect: false };
const expired = new MillraceError('deadline-exceeded', 'The deadline passed before the prediction ran');
const workerCrashed = new MillraceError('worker-crashed', 'Two workers died while they ran this prediction, the second one running nothing beside it');
