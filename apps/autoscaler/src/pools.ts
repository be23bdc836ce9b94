// The pools to scale and their bounds, as the setting tells them: `default=0..4,gpu=0..1`.
import { poolPattern } from '@millrace/protocol';

export interface PoolBounds {
  readonly minReplicas: number;
  readonly maxReplicas: number;
}

const one = `${poolPattern.slice(1, -1)}=\\d{1,4}\\.\\.\\d{1,4}`;
export const poolsPattern = `^${one}(,${one})*$`;

/** Bounds by pool. Throws with a sentence for whoever set it. */
export function readPools(text: string): Map<string, PoolBounds> {
  return new Map(text.split(',').map((part) => {
    const [pool = '', bounds = ''] = part.split('=');
    const [minReplicas = 0, maxReplicas = 0] = bounds.split('..').map(Number);
    if (minReplicas > maxReplicas) throw new Error(`the pools to scale have their least workers first, as in default=0..4; got ${part}`);
    return [pool, { minReplicas, maxReplicas }];
  }));
}
