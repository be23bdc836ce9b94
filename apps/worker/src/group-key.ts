// Which pieces can be stacked into one micro-batch.
import type { ModelVersion } from '@millrace/models';
import type { Piece } from './piece.ts';

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

/** Pieces with the same key can be stacked: one owner and version, the same lengths in every dimension but the first. */
export function groupKey({ owner, inputs, version }: Piece): string {
  const { key, dynamic } = keyPartOf(version);
  return dynamic ? `${owner.name} ${key} ${Object.values(inputs).map(({ shape }) => shape.slice(1).join('x')).join(' ')}` : `${owner.name} ${key}`;
}
