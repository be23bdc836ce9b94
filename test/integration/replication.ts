// Replication between Redis servers on loopback.
import { Redis } from 'ioredis';
import { until } from './rig.ts';

/** Resolves when the replica of a master has all that the master has acknowledged. */
export async function untilReplicated(masterPort: number): Promise<void> {
  const master = new Redis(masterPort);
  await until(async () => {
    const [, offset, acknowledged] = /slave0:.*offset=(\d+)[^]*master_repl_offset:(\d+)/.exec(await master.info('replication')) ?? [];
    return offset !== undefined && offset === acknowledged;
  }, 'replication');
  master.disconnect();
}
