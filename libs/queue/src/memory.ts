// How much memory Redis uses, and how much it may.
import type { Redis } from './connection.ts';
import { mastersOf } from './servers.ts';

export interface MemoryUse {
  readonly usedBytes: number;
  /** Where Redis refuses to write; 0 where it has no limit. */
  readonly maxBytes: number;
}

/** Reads it of the server, or of the fullest master of a cluster. */
export async function readMemory(redis: Redis): Promise<MemoryUse> {
  const uses = await Promise.all(mastersOf(redis).map(readServer));
  const fullness = ({ usedBytes, maxBytes }: MemoryUse) => (maxBytes === 0 ? 0 : usedBytes / maxBytes);
  return uses.reduce((fullest, use) => (fullness(use) > fullness(fullest) ? use : fullest));
}

/** What Redis itself compares with `maxmemory`: buffers of replicas and of the append-only file do not count. */
async function readServer(redis: Redis): Promise<MemoryUse> {
  const info = await redis.info('memory');
  const field = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
  return { usedBytes: field('used_memory') - field('mem_not_counted_for_evict'), maxBytes: field('maxmemory') };
}
