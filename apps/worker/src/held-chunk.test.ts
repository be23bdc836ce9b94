import type { ModelVersion } from '@millrace/models';
import { bytesOf, MillraceError } from '@millrace/protocol';
import { type ChunkClaim, type Suspicion, Work } from '@millrace/queue';
import { expect, test } from 'vitest';
import { HeldChunk } from './held-chunk.ts';
import type { PieceOwner } from './piece.ts';

/** The rows of the pieces that are run, where others were failed before. */
function piecesOf(rows: number, maxRows: number, suspicion: Suspicion): readonly (readonly [from: number, to: number])[] {
  const held = new HeldChunk({} as PieceOwner, {
    claim: { job: { lane: 'bulk', priority: 3 }, claimedAt: 0 } as ChunkClaim,
    version: { batched: maxRows > 1, manifest: { batching: { maxRows }, labels: [] as readonly string[] } } as ModelVersion,
    groups: [{ positions: undefined, rows, tensors: { x: { dtype: 'float32', shape: [rows, 1], data: bytesOf(new Float32Array(rows)) } } }],
    suspicion, work: new Work(),
  });
  for (const row of suspicion.culprits) held.fail(row, new MillraceError('worker-crashed', 'killed'));
  const spans: (readonly [number, number])[] = [];
  for (let piece = held.next(maxRows); piece; piece = held.next(maxRows)) spans.push([piece.span.from, piece.span.to]);
  return spans;
}

test('suspects run row by row, and culprits not at all, whatever pieces a model takes', () => {
  expect(piecesOf(3, 1, { suspects: [{ from: 1, to: 2 }], culprits: [1] })).toEqual([[0, 1], [2, 3]]);
  expect(piecesOf(5, 4, { suspects: [{ from: 4, to: 5 }], culprits: [4] })).toEqual([[0, 4]]);
  expect(piecesOf(6, 4, { suspects: [{ from: 0, to: 4 }], culprits: [2] })).toEqual([[0, 1], [1, 2], [3, 4], [4, 6]]);
  expect(piecesOf(3, 1, { suspects: [], culprits: [1] })).toEqual([[0, 1], [2, 3]]);
});
