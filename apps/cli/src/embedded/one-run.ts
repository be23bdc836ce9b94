// Everything that one backfill needs, started for it alone. What it knows lies in a folder beside its output, so that the same
// command goes on where it was stopped or killed.
import { mkdir, rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { Client } from '../client.ts';
import { withStore } from '../commands/keys.ts';
import { warnings } from '../logs.ts';
import { startSystem } from './system.ts';

export interface OneRunOptions {
  readonly redisServer: string;
  readonly models: string;
  readonly workers: number;
  /** A path or s3://bucket/key. */
  readonly output: string;
}

export interface OneRun {
  readonly client: Client;
  /** Nothing was left of an earlier run. */
  readonly fresh: boolean;
  /** Ends all processes; the same again starts where they were. */
  stop(): Promise<void>;
  /** Removes what they knew. To be called when they have stopped. */
  forget(): Promise<void>;
}

const keyLifeMs = 90 * 86_400_000;

/** Beside the output; where that is an object, here. */
export function folderOf(output: string): string {
  return `${output.startsWith('s3://') ? resolve(basename(output)) : output}.backfill`;
}

export async function startOneRun({ redisServer, models, workers, output }: OneRunOptions): Promise<OneRun> {
  const folder = folderOf(output);
  const fresh = await makeFolder(folder);
  const forget = () => rm(folder, { recursive: true, force: true });
  let key = '';
  const starting = startSystem({
    redisServer, models, workers, port: 0, dataDir: join(folder, 'redis'), onLog: warnings(),
    // Paths come from this command alone: the key shuts everybody else out.
    prepare: async (redisUrl) => { key = await makeKey(redisUrl); },
    env: { MILLRACE_BACKFILL_WORK: join(folder, 'work'), MILLRACE_BACKFILL_INPUTS: '/,s3://', MILLRACE_BACKFILL_OUTPUTS: '/,s3://' },
  });
  const system = await starting.catch(async (error: unknown) => {
    if (fresh) await forget();
    throw error;
  });
  // Whatever ends this process early: what they had under way is run again.
  process.once('exit', () => system.kill());
  return { client: new Client(system.url, key), fresh, stop: () => system.stop(), forget };
}

/** False where it is there already. */
async function makeFolder(folder: string): Promise<boolean> {
  try {
    await mkdir(folder);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST') return false;
    throw new Error(`${folder} cannot be made: ${code === 'ENOENT' ? 'there is no such folder' : (error as Error).message}`, { cause: error });
  }
}

async function makeKey(redis: string): Promise<string> {
  const now = Date.now();
  const wanted = { tenant: 'default', name: 'millrace backfill', scopes: ['backfills:write', 'predict:read'], expiresAt: now + keyLifeMs, limits: {} } as const;
  return (await withStore({ redis, data: '' }, (store) => store.create(wanted, now))).text;
}
