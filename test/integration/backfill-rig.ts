// Backfills over the real processes, for tests: a folder with inputs and outputs, and the store that makes them.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { BackfillData, BackfillRecord, BackfillSpec, BackfillState, Model, PinnedModel } from '@millrace/protocol';
import { BackfillStore, connect, readDemand, type Redis } from '@millrace/queue';
import { afterAll } from 'vitest';
import { send, startTestSystem, temporaryFolder, type TestOptions, type TestSystem, until } from './rig.ts';

export interface BackfillRig {
  readonly system: TestSystem;
  readonly redis: Redis;
  readonly store: BackfillStore;
  /** Inputs and outputs are here. */
  readonly folder: string;
  readonly env: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

/** For a whole file of tests: ends with it. */
export async function startBackfills({ env, ...options }: TestOptions = {}): Promise<BackfillRig> {
  const folder = await temporaryFolder(afterAll);
  for (const name of ['work', 'files']) await mkdir(path.join(folder, name));
  const files = path.join(folder, 'files');
  const all = { MILLRACE_BACKFILL_WORK: path.join(folder, 'work'), MILLRACE_BACKFILL_INPUTS: files, MILLRACE_BACKFILL_OUTPUTS: files, MILLRACE_BACKFILL_THREADS: '1', ...env };
  const system = await startTestSystem({ env: all, ...options });
  const redis = connect({ redisUrl: system.redisUrl }, 'worker', () => {});
  const stop = async () => {
    redis.disconnect();
    await system.stop();
  };
  return { system, redis, store: new BackfillStore(redis, 3600), folder: files, env: all, stop };
}

/** The newest version of a model, as the API pins it. */
export async function pin({ system }: BackfillRig, name: string): Promise<PinnedModel> {
  const { pool, labels, versions: [newest] } = (await send(system, 'GET', `/api/v1/models/${name}`)).body as Model;
  const { version, sha256, batched, inputs, outputs } = newest as Model['versions'][number];
  return { name, version, digest: sha256 as string, pool, batched: batched as boolean, signature: { inputs, outputs }, labels };
}

type Files = Omit<BackfillData, 'input' | 'output'> & { readonly input: string; readonly output: string };

/** Makes a backfill over files of the rig's folder. */
export async function backfill(rig: BackfillRig, model: string, { input, output, ...data }: Files, more: Partial<BackfillSpec> = {}): Promise<string> {
  const at = (name: string) => ({ uri: path.join(rig.folder, name) });
  const spec = { model: await pin(rig, model), data: { ...data, input: at(input), output: at(output) }, maxAttempts: 3, priority: 3, ...more };
  return (await rig.store.create('default', spec, Date.now())).id;
}

export async function find({ store }: BackfillRig, id: string): Promise<BackfillRecord> {
  return await store.find(id) as BackfillRecord;
}

/** Waits until it is in one of the states. */
export function comesTo(rig: BackfillRig, id: string, states: readonly BackfillState[], seconds = 60): Promise<BackfillRecord> {
  return until(async () => {
    const record = await find(rig, id);
    return states.includes(record.progress.state) && record.wish === undefined && record;
  }, `${id} to be ${states.join(' or ')}`, seconds);
}

export const ends = (rig: BackfillRig, id: string, seconds = 60) => comesTo(rig, id, ['completed', 'failed', 'canceled'], seconds);

export async function write({ folder }: BackfillRig, name: string, text: string): Promise<void> {
  await writeFile(path.join(folder, name), text);
}

export async function read({ folder }: BackfillRig, name: string): Promise<string> {
  return readFile(path.join(folder, name), 'utf8');
}

/** Rows of the bulk lane that wait or run. */
export async function bulkRows({ redis }: BackfillRig): Promise<number> {
  return (await readDemand(redis, 'default')).lanes.bulk.rows;
}
