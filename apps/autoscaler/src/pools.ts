// The pools to scale and their bounds, as the setting tells them: `default=0..4,gpu=0..1`.
import { poolPattern } from '@millrace/protocol';

export interface PoolBounds {
  readonly minReplicas: number;
  readonly maxReplicas: number;
}

const pool = poolPattern.slice(1, -1);
const one = `${pool}=\\d{1,4}\\.\\.\\d{1,4}`;
export const poolsPattern = `^${one}(,${one})*$`;

const deployment = `${pool}=[a-z0-9]([a-z0-9.-]*[a-z0-9])?`;
export const deploymentsPattern = `^(${deployment}(,${deployment})*)?$`;

/** Bounds by pool. Throws with a sentence for whoever set it. */
export function readPools(text: string): Map<string, PoolBounds> {
  return new Map(text.split(',').map((part) => {
    const [pool = '', bounds = ''] = part.split('=');
    const [minReplicas = 0, maxReplicas = 0] = bounds.split('..').map(Number);
    if (minReplicas > maxReplicas) throw new Error(`the pools to scale have their least workers first, as in default=0..4; got ${part}`);
    return [pool, { minReplicas, maxReplicas }];
  }));
}

/** The Deployment of each pool that has one. */
export function readDeployments(text: string): Map<string, string> {
  return new Map(text.split(',').filter((part) => part !== '').map((part) => part.split('=') as [string, string]));
}
