// What a micro-batch is made of, and who it belongs to.
import type { ItemOutcome } from '@millrace/inference';
import type { ModelVersion } from '@millrace/models';
import type { Lane, Tensors } from '@millrace/protocol';

/** Some rows of a prediction or of a chunk. What has more rows than a micro-batch is cut into several. */
export interface Piece {
  readonly owner: PieceOwner;
  readonly version: ModelVersion;
  readonly inputs: Tensors;
  readonly lane: Lane;
  readonly priority: number;
  readonly rows: number;
  readonly arrivedAt: number;
  readonly deadlineAt: number | undefined;
}

/** Rows of a full micro-batch. */
export function fullRows({ batched, manifest: { batching: { maxRows } } }: ModelVersion): number {
  return batched ? maxRows : 1;
}

/** Who cuts claims into pieces and takes what came of them. It is given its own pieces only, and they share no micro-batch with others'. */
export interface PieceOwner {
  readonly name: string;
  /** They stand in a micro-batch that runs from now on. */
  begin(pieces: readonly Piece[], startedAt: number): void;
  /** What came of them, in order; `alone` where nothing ran beside them. Resolves when it is dealt with. */
  end(pieces: readonly Piece[], outcomes: readonly ItemOutcome[], alone: boolean): Promise<void>;
  /** The piece's deadline passed before it could run. */
  expire(piece: Piece): void;
  /** What the log calls it. */
  nameOf(piece: Piece): string;
}
