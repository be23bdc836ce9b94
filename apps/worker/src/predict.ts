// From a claimed bundle to settled predictions: the worker's story.
import { bundlesToClaim, type MicroBatch, MicroBatcher } from '@millrace/batching';
import type { InferenceEngine, ItemOutcome } from '@millrace/inference';
import type { ModelRepository, ModelVersion } from '@millrace/models';
import type { Logger } from '@millrace/process';
import { fromWireAll, MillraceError, parsePredictionId, predictionId, type Tensors } from '@millrace/protocol';
import { type Cancellations, type Claim, HandBack, type Payloads, type Settlement, type Settler } from '@millrace/queue';
import { HeldBundle, type Piece, type Progress } from './held-bundle.ts';
import type { WorkerMetrics } from './metrics.ts';

export interface PredictorOptions {
  readonly repository: ModelRepository;
  readonly engine: InferenceEngine;
  readonly settler: Settler;
  readonly cancellations: Cancellations;
  readonly payloads: Payloads;
  readonly threads: number;
  readonly metrics: WorkerMetrics;
  readonly log: Logger;
  /** Told how many bundles to hold, after every micro-batch. */
  readonly onAppetite: (bundles: number) => void;
}

/** Weight of the newest value in moving averages. */
const newest = 0.2;

export class Predictor {
  readonly #options: PredictorOptions;
  readonly #batcher = new MicroBatcher<Piece, ModelVersion>((piece) => this.#expire(piece));
  readonly #held = new Map<string, HeldBundle>();
  #holdTimer: NodeJS.Timeout | undefined;
  #stopping = false;
  #rowsPerBundle = 1;
  #secondsPerRow = 0;

  constructor(options: PredictorOptions) {
    this.#options = options;
  }

  get claimedRows(): number {
    let rows = 0;
    for (const held of this.#held.values()) rows += held.rowsLeft;
    return rows;
  }

  /** Resolves when every prediction of the claimed bundle is settled; rejects with `HandBack` where the worker stops first. */
  async handle(claim: Claim): Promise<void> {
    const held = new HeldBundle(claim);
    this.#held.set(claim.bundleId, held);
    const onLost = () => {
      this.#options.log.warn({ predictionIds: held.unsettledIds }, 'claim lost, another worker will run it');
      this.#abandon(held, new Error('the claim was lost'));
    };
    claim.lost.addEventListener('abort', onLost);
    try {
      await this.#take(held);
      held.endIfSettled();
      if (this.#stopping) this.#handBackIfStill(held);
      this.pump();
      await held.ended;
    } finally {
      claim.lost.removeEventListener('abort', onLost);
      this.#held.delete(claim.bundleId);
    }
  }

  /** A prediction was settled as canceled by an API node: it need not run. */
  cancel(id: string): void {
    const address = parsePredictionId(id);
    const held = this.#held.get(address?.bundleId ?? '');
    if (!address || !held) return;
    held.markSettled(address.index);
    this.#batcher.removeWhere(({ progress }) => progress.state === 'settled');
  }

  /** Lets running micro-batches end and gives everything else back. */
  stop(): void {
    this.#stopping = true;
    clearTimeout(this.#holdTimer);
    this.#batcher.removeWhere(() => true);
    for (const held of this.#held.values()) this.#handBackIfStill(held);
  }

  /** Decodes the bundle's unsettled predictions and puts their pieces before the inference threads. */
  async #take(held: HeldBundle): Promise<void> {
    const { claim, claim: { bundle: { predictions } } } = held;
    const settled = await this.#settledBefore(claim);
    const open = [...predictions.keys()].filter((index) => !settled.has(index)).map((index) => held.open(index));
    const rows = predictions.reduce((sum, prediction) => sum + prediction.rows, 0);
    this.#rowsPerBundle += newest * (rows - this.#rowsPerBundle);

    const version = await this.#versionOf(claim);
    if (version instanceof MillraceError) return this.#settle(held, open.map((progress) => held.end(progress, 'failed', version)));
    for (const progress of open) {
      const inputs = await this.#inputsOf(claim, progress);
      if (inputs instanceof MillraceError) await this.#settle(held, [held.end(progress, 'failed', inputs)]);
      else for (const piece of held.cut(progress, inputs, version)) this.#add(piece);
    }
  }

  #add(piece: Piece): void {
    const { version } = piece;
    const { maxRows, maxDelayMs } = version.manifest.batching;
    this.#batcher.add(groupKey(piece), piece, { version, maxRows: version.batched ? maxRows : 1, maxDelayMs });
  }

  /** What need not run any more. Redis is only asked where a cancellation or an earlier claim may have been missed here. */
  async #settledBefore({ bundleId, bundle, claimedBefore }: Claim): Promise<ReadonlySet<number>> {
    const { cancellations, settler } = this.#options;
    const bundledAt = parsePredictionId(predictionId(bundleId, 0))?.bundledAt ?? 0;
    if (claimedBefore || !cancellations.covers(bundledAt)) return settler.settled(bundleId);
    if (cancellations.isEmpty) return noneSettled;
    return new Set([...bundle.predictions.keys()].filter((index) => cancellations.has(predictionId(bundleId, index))));
  }

  /** The version that the bundle names, proven by its digest; looks again where the repository may just have changed. */
  async #versionOf({ bundle: { model } }: Claim): Promise<ModelVersion | MillraceError> {
    const { repository } = this.#options;
    let found = repository.find(model);
    if (found?.id.digest !== model.digest) {
      await repository.scan();
      found = repository.find(model);
    }
    const name = `${model.name}@${model.version}`;
    if (!found) return new MillraceError('model-unavailable', `${name} is not in this worker’s repository`);
    if (found.id.digest !== model.digest) return new MillraceError('model-changed', `${name} is another file here than the one that the API read`);
    return found;
  }

  async #inputsOf({ bundleId }: Claim, { index, prediction }: Progress): Promise<Tensors | MillraceError> {
    const payload = prediction.detached ? await this.#options.payloads.read(bundleId, index) : undefined;
    if (prediction.detached && !payload) return new MillraceError('payload-lost', 'The inputs are not kept any more');
    try {
      return fromWireAll(prediction.inputs, payload);
    } catch (error) {
      this.#options.log.error({ err: error, predictionId: predictionId(bundleId, index) }, 'inputs cannot be decoded');
      return new MillraceError('internal', 'The inputs cannot be decoded');
    }
  }

  /** Starts every micro-batch that a free thread would take. To be called whenever one may have become free. */
  pump(): void {
    clearTimeout(this.#holdTimer);
    const { engine } = this.#options;
    while (!this.#stopping) {
      const next = this.#batcher.next(Date.now(), (version, full) => engine.canTake(version, full));
      if (next.kind === 'hold') this.#holdTimer = setTimeout(() => this.pump(), next.ms);
      if (next.kind !== 'run') return;
      void this.#run(next.batch);
    }
  }

  async #run({ version, items: pieces, rows }: MicroBatch<Piece, ModelVersion>): Promise<void> {
    const startedAt = Date.now();
    for (const { held, progress } of pieces) {
      held.running++;
      progress.startedAt ??= startedAt;
    }
    this.#logRun(pieces);
    const outcomes = await this.#options.engine.run(version, pieces);
    this.pump();
    this.#measure(version, pieces, rows, startedAt, outcomes);

    const settlements = new Map<HeldBundle, Settlement[]>();
    for (const [place, piece] of pieces.entries()) {
      piece.held.running--;
      const settlement = settlementOf(piece, outcomes[place] as ItemOutcome);
      const ofBundle = settlements.get(piece.held);
      if (!ofBundle) settlements.set(piece.held, settlement ? [settlement] : []);
      else if (settlement) ofBundle.push(settlement);
    }
    for (const [held, ofBundle] of settlements) void this.#settle(held, ofBundle);
  }

  /** What the chaos suite counts executions by. */
  #logRun(pieces: readonly Piece[]): void {
    const { log } = this.#options;
    if (!log.isLevelEnabled('debug')) return;
    log.debug({ predictionIds: pieces.map(({ held, progress }) => predictionId(held.claim.bundleId, progress.index)) }, 'micro-batch runs');
  }

  /** Writes results; the first write of each wins. Where Redis refuses, the bundle is given up here and tried again. */
  async #settle(held: HeldBundle, settlements: readonly Settlement[]): Promise<void> {
    const { settler, payloads } = this.#options;
    const { bundleId, bundle: { tenant, lane, replyTo, model, predictions } } = held.claim;
    if (settlements.length > 0) {
      const metrics = this.#options.metrics.of(model);
      const startedAt = performance.now();
      try {
        const fresh = await settler.settle({ bundleId, tenant, lane, replyTo }, settlements);
        for (const { index, record } of settlements) if (fresh.has(index)) metrics.settled(record);
      } catch (error) {
        return this.#abandon(held, error as Error);
      }
      metrics.published((performance.now() - startedAt) / 1000);
      for (const { index } of settlements) {
        if (predictions[index]?.detached) payloads.remove(bundleId, index);
        held.markSettled(index);
      }
    }
    if (this.#stopping) this.#handBackIfStill(held);
  }

  #expire(piece: Piece): void {
    const { held, progress } = piece;
    // Once the first piece of a prediction has started, the others may take their time.
    if (progress.startedAt !== undefined) this.#add({ ...piece, deadlineAt: undefined });
    else if (progress.state === 'open') void this.#settle(held, [held.end(progress, 'expired', expired)]);
  }

  /** Gives a bundle up: whoever claims it next finds what is settled and goes on. */
  #abandon(held: HeldBundle, error: Error): void {
    this.#batcher.removeWhere((piece) => piece.held === held);
    held.giveUp(error);
  }

  #handBackIfStill(held: HeldBundle): void {
    if (held.running === 0) held.giveUp(new HandBack('the worker is stopping'));
  }

  #measure(version: ModelVersion, pieces: readonly Piece[], rows: number, startedAt: number, outcomes: readonly ItemOutcome[]): void {
    const ran = outcomes.find((outcome) => outcome.ok);
    if (!ran) return;
    const { metrics, threads, onAppetite } = this.#options;
    const oldestAt = pieces.reduce((oldest, { arrivedAt }) => Math.min(oldest, arrivedAt), Infinity);
    metrics.of(version.id).ran(rows, ran.inferenceMs / 1000, (startedAt - oldestAt) / 1000);
    this.#secondsPerRow += newest * (ran.inferenceMs / 1000 / ran.batchRows - this.#secondsPerRow);
    const { maxRows } = version.manifest.batching;
    onAppetite(bundlesToClaim({ maxRows, threads, rowsPerBundle: this.#rowsPerBundle, secondsPerRow: this.#secondsPerRow }));
  }
}

const noneSettled: ReadonlySet<number> = new Set();
const expired = new MillraceError('deadline-exceeded', 'The deadline passed before the prediction ran');

/** A version's part of the group key, and whether its inputs' inner dimensions belong to it. Made once: there is a piece a prediction. */
const keyParts = new WeakMap<ModelVersion, { readonly key: string; readonly dynamic: boolean }>();

function keyPartOf(version: ModelVersion): { readonly key: string; readonly dynamic: boolean } {
  let part = keyParts.get(version);
  if (!part) {
    const { id: { name, version: number, digest }, signature } = version;
    const dynamic = signature.inputs.some(({ shape }) => shape.slice(1).some((dim) => typeof dim === 'string' || dim === -1));
    keyParts.set(version, part = { key: `${name}@${number} ${digest}`, dynamic });
  }
  return part;
}

/** Pieces with the same key can be stacked: one version, the same lengths in every dimension but the first. */
function groupKey({ inputs, version }: Piece): string {
  const { key, dynamic } = keyPartOf(version);
  return dynamic ? `${key} ${Object.values(inputs).map(({ shape }) => shape.slice(1).join('x')).join(' ')}` : key;
}

/** The prediction's end, where this outcome decides it. */
function settlementOf(piece: Piece, outcome: ItemOutcome): Settlement | undefined {
  const { held, progress } = piece;
  if (progress.state !== 'open') return undefined;
  return outcome.ok ? held.complete(piece, outcome) : held.end(progress, 'failed', outcome.error);
}
