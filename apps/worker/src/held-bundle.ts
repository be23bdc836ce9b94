// A claimed bundle and how far its predictions are. One owner: the predictor.
import { type ItemOutcome, labelsOf } from '@millrace/inference';
import type { ModelVersion } from '@millrace/models';
import {
  type BundledPrediction, joinRows, mapTensors, type MillraceError, type Outcome, predictionId, presentPrediction, type ResultRecord, rowsOf,
  type Tensors, toWireAll,
} from '@millrace/protocol';
import { type Claim, type Settlement, Work } from '@millrace/queue';
import { fullRows, type Piece, type PieceOwner } from './piece.ts';

/** Some rows of one prediction. */
export interface PredictionPiece extends Piece {
  readonly held: HeldBundle;
  readonly progress: Progress;
  readonly place: number;
}

/** How far one prediction is: `open` until its end is decided here, `settled` once Redis has its record or its next attempt. */
export interface Progress {
  readonly index: number;
  readonly prediction: BundledPrediction;
  state: 'open' | 'decided' | 'settled';
  /** Outputs by piece. */
  outputs: (Tensors | undefined)[];
  piecesLeft: number;
  startedAt: number | undefined;
  inferenceMs: number;
  batchRows: number;
}

export class HeldBundle {
  readonly claim: Claim;
  /** What running its rows has cost, and is not written down yet. */
  readonly work = new Work();
  readonly #ended = Promise.withResolvers<void>();
  readonly #progress = new Map<number, Progress>();
  /** Pieces that stand in running micro-batches. */
  running = 0;
  givenUp = false;
  #unsettled = 0;

  constructor(claim: Claim) {
    this.claim = claim;
    // It may be given up before anybody waits for its end.
    this.#ended.promise.catch(() => {});
  }

  /** Resolves when all is settled; rejects when the bundle is given up here. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  get rowsLeft(): number {
    return this.#left().reduce((rows, { prediction }) => rows + prediction.rows, 0);
  }

  get unsettledIds(): string[] {
    return this.#left().map(({ index }) => predictionId(this.claim.bundleId, index));
  }

  #left(): Progress[] {
    return [...this.#progress.values()].filter(({ state }) => state !== 'settled');
  }

  /** Begins a prediction of the bundle. */
  open(index: number): Progress {
    const prediction = this.claim.predictions.get(index) as BundledPrediction;
    const progress: Progress = { index, prediction, state: 'open', outputs: [], piecesLeft: 0, startedAt: undefined, inferenceMs: 0, batchRows: 0 };
    this.#progress.set(index, progress);
    this.#unsettled++;
    return progress;
  }

  /** Cuts a prediction into pieces of at most `max_rows`, where the model has a batch dimension. */
  cut(owner: PieceOwner, { progress, inputs, version }: { progress: Progress; inputs: Tensors; version: ModelVersion }): PredictionPiece[] {
    const { rows, deadlineAt } = progress.prediction;
    const { maxRows } = version.manifest.batching;
    const count = version.batched ? Math.ceil(rows / maxRows) : 1;
    progress.outputs = Array.from({ length: count });
    progress.piecesLeft = count;
    const { bundle: { lane, priority }, claimedAt } = this.claim;
    const common = { owner, held: this, progress, version, lane, priority, arrivedAt: claimedAt, deadlineAt };
    if (count === 1) return [{ ...common, place: 0, inputs, rows }];
    return progress.outputs.map((_, place) => {
      const from = place * maxRows;
      const to = Math.min(rows, from + maxRows);
      return { ...common, place, inputs: mapTensors(inputs, (tensor) => rowsOf(tensor, from, to)), rows: to - from };
    });
  }

  /** Takes a piece's outputs; the prediction's settlement where it was the last one. */
  complete({ progress, place, version, rows }: PredictionPiece, ran: ItemOutcome & { ok: true }): Settlement | undefined {
    const { outputs, inferenceMs, batchRows } = ran;
    this.work.ran(rows, ran, fullRows(version));
    progress.outputs[place] = outputs;
    progress.inferenceMs += inferenceMs;
    progress.batchRows = Math.max(progress.batchRows, batchRows);
    if (--progress.piecesLeft > 0) return undefined;
    const all = progress.outputs.length === 1 ? outputs : joinRows(progress.outputs as Tensors[]);
    const labels = labelsOf(all, version.manifest.labels, progress.prediction.rows);
    return this.#decide(progress, 'succeeded', { outputs: toWireAll(all), ...(labels && { labels }) }, all);
  }

  /** Ends a prediction without outputs. */
  end(progress: Progress, outcome: 'failed' | 'expired', { code, message }: MillraceError): Settlement {
    return this.#decide(progress, outcome, { error: { code, detail: message } });
  }

  markSettled(index: number): void {
    const progress = this.#progress.get(index);
    if (!progress || progress.state === 'settled') return;
    progress.state = 'settled';
    this.#unsettled--;
    this.endIfSettled();
  }

  endIfSettled(): void {
    if (this.#unsettled === 0) this.#ended.resolve();
  }

  giveUp(error: Error): void {
    this.givenUp = true;
    this.#ended.reject(error);
  }

  #decide(progress: Progress, outcome: Outcome, result: Partial<ResultRecord>, tensors?: Tensors): Settlement {
    const { bundleId, bundle: { model, replyTo }, claimedAt, attempt } = this.claim;
    const { index, prediction: { acceptedAt, rows, echo, notify }, startedAt, inferenceMs, batchRows } = progress;
    if (progress.state !== 'open') throw new Error(`a prediction that is ${progress.state} was decided again`);
    progress.state = 'decided';
    const attempts = outcome === 'expired' ? attempt - 1 : attempt;
    const record: ResultRecord = {
      outcome, model: model.name, version: model.version, rows, acceptedAt, settledAt: Date.now(), ...(attempts !== 1 && { attempts }),
      ...(startedAt !== undefined && {
        startedAt,
        timing: { queueMs: claimedAt - acceptedAt, batchWaitMs: startedAt - claimedAt, inferenceMs: toMicroseconds(inferenceMs), batchRows },
      }),
      ...(echo && { echo }),
      // Last, with outputs and labels at its end: listing cuts them off (libs/queue/src/summaries.lua).
      ...result,
    };
    if (!replyTo) return { index, record, notify };
    return { index, record, notify, reply: JSON.stringify(presentPrediction(predictionId(bundleId, index), record, { tensors })) };
  }
}

/** More digits would say nothing and cost time to write. */
function toMicroseconds(ms: number): number {
  return Math.round(1000 * ms) / 1000;
}
