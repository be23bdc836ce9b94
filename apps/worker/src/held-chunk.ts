// The rows of a claimed chunk, and how far they are. One owner: who predicts chunks.
import type { Outcome, RowFailed, RowGroup, RowsDone } from '@millrace/backfill';
import { type ItemOutcome, labelsOf } from '@millrace/inference';
import type { ModelVersion } from '@millrace/models';
import { joinRows, mapTensors, type MillraceError, rowsOf, type Tensors } from '@millrace/protocol';
import type { ChunkClaim, Span, Suspicion, Work } from '@millrace/queue';
import { fullRows, type Piece, type PieceOwner } from './piece.ts';

/** Some rows of one chunk. */
export interface ChunkPiece extends Piece {
  readonly held: HeldChunk;
  readonly span: Span;
}

/** Rows that can be stacked. Through all groups, rows are counted from 0: the same in every replica that reads the chunk. */
interface Group extends RowGroup {
  readonly first: number;
}

export interface ChunkToRun {
  readonly claim: ChunkClaim;
  readonly version: ModelVersion;
  readonly groups: readonly RowGroup[];
  /** What replicas have died with; undefined where there is no doubt. */
  readonly suspicion: Suspicion | undefined;
  /** Takes what running its rows has cost. */
  readonly work: Work;
}

export class HeldChunk {
  readonly claim: ChunkClaim;
  readonly version: ModelVersion;
  /** Its pieces are run alone. */
  readonly suspicious: boolean;
  readonly #owner: PieceOwner;
  readonly #groups: readonly Group[];
  readonly #ended = Promise.withResolvers<void>();
  /** What has not begun; the next one last. */
  readonly #waiting: Span[];
  readonly #done: { readonly span: Span; readonly outputs: Tensors }[] = [];
  readonly #failed: RowFailed[] = [];
  readonly #work: Work;
  #rowsLeft = 0;
  /** Pieces that stand in running micro-batches. */
  running = 0;
  givenUp = false;

  constructor(owner: PieceOwner, { claim, version, groups, suspicion, work }: ChunkToRun) {
    this.claim = claim;
    this.version = version;
    this.suspicious = suspicion !== undefined;
    this.#owner = owner;
    this.#work = work;
    this.#groups = groups.map((group) => {
      const first = this.#rowsLeft;
      this.#rowsLeft += group.rows;
      return { ...group, first };
    });
    const spans = this.#groups.flatMap((group) => this.#cut(group));
    this.#waiting = (suspicion ? withoutCulprits(spans, suspicion) : spans).toReversed();
    // It may be given up before anybody waits for its end.
    this.#ended.promise.catch(() => {});
  }

  /** Resolves when every row has an outcome; rejects when the chunk is given up here. */
  get ended(): Promise<void> {
    return this.#ended.promise;
  }

  get rowsLeft(): number {
    return this.#rowsLeft;
  }

  /** The next piece, of so many rows at most; undefined where all have begun. */
  next(mostRows: number): ChunkPiece | undefined {
    const waiting = this.#waiting.pop();
    if (!waiting) return undefined;
    const span = { from: waiting.from, to: Math.min(waiting.to, waiting.from + mostRows) };
    if (span.to < waiting.to) this.#waiting.push({ from: span.to, to: waiting.to });
    const { tensors, first } = this.#groupOf(span);
    const { job: { lane, priority }, claimedAt } = this.claim;
    return {
      owner: this.#owner, held: this, span, version: this.version, lane, priority, rows: span.to - span.from, arrivedAt: claimedAt, deadlineAt: undefined,
      inputs: mapTensors(tensors, (tensor) => rowsOf(tensor, span.from - first, span.to - first)),
    };
  }

  /** Rows that failed together are to run again, each by itself: next. */
  again({ from, to }: Span): void {
    for (let row = to - 1; row >= from; row--) this.#waiting.push({ from: row, to: row + 1 });
  }

  complete(span: Span, { outputs, ...ran }: ItemOutcome & { ok: true }): void {
    const rows = span.to - span.from;
    this.#done.push({ span, outputs });
    this.#work.ran(rows, ran, fullRows(this.version));
    this.#settle(rows);
  }

  fail(row: number, { code, message }: MillraceError): void {
    const group = this.#groupOf({ from: row, to: row + 1 });
    this.#failed.push({ position: positionIn(group, row), code, reason: message });
    this.#settle(1);
  }

  endIfSettled(): void {
    this.#settle(0);
  }

  giveUp(error: Error): void {
    this.givenUp = true;
    this.#waiting.length = 0;
    this.#ended.reject(error);
  }

  /** What became of every row that could be read. */
  outcome(): Outcome {
    return { done: this.#groups.flatMap((group) => this.#doneOf(group)), failed: this.#failed };
  }

  #doneOf(group: Group): RowsDone[] {
    const pieces = this.#done.filter(({ span }) => this.#groupOf(span) === group).sort((a, b) => a.span.from - b.span.from);
    if (pieces.length === 0) return [];
    const positions = new Int32Array(pieces.reduce((sum, { span: { from, to } }) => sum + to - from, 0));
    let at = 0;
    for (const { span: { from, to } } of pieces) for (let row = from; row < to; row++) positions[at++] = positionIn(group, row);
    const outputs = joinRows(pieces.map((piece) => piece.outputs));
    const labels = labelsOf(outputs, this.version.manifest.labels, positions.length);
    return [{ positions, outputs, ...(labels && { labels }) }];
  }

  #settle(rows: number): void {
    this.#rowsLeft -= rows;
    if (this.#rowsLeft === 0) this.#ended.resolve();
  }

  #cut({ first, rows }: Group): Span[] {
    const maxRows = fullRows(this.version);
    return Array.from({ length: Math.ceil(rows / maxRows) }, (_, place) => ({ from: first + place * maxRows, to: first + Math.min(rows, (place + 1) * maxRows) }));
  }

  #groupOf({ from }: Span): Group {
    return this.#groups.findLast(({ first }) => first <= from) as Group;
  }
}

/** Suspects run row by row; culprits do not run at all. */
function withoutCulprits(spans: readonly Span[], { suspects, culprits }: Suspicion): Span[] {
  return spans.flatMap((span) => {
    const rows = Array.from({ length: span.to - span.from }, (_, place) => span.from + place);
    const innocent = rows.filter((row) => !culprits.includes(row));
    const trusted = innocent.length === rows.length && !suspects.some(({ from, to }) => from < span.to && span.from < to);
    return trusted ? [span] : innocent.map((row) => ({ from: row, to: row + 1 }));
  });
}

function positionIn({ positions, first }: Group, row: number): number {
  return positions ? positions[row - first] as number : row - first;
}
