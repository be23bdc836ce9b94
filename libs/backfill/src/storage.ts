// What a process needs to take part in backfills: the place that all of them share, one DuckDB, and the object store.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Engine } from './engine.ts';
import { LocalInputs } from './local-inputs.ts';
import { ObjectStore } from './object-store.ts';
import { locate } from './places.ts';
import type { StorageSettings } from './settings.ts';
import { WorkBucket, WorkFolder, type WorkPlace } from './work-place.ts';

export interface Storage {
  readonly engine: Engine;
  readonly inputs: LocalInputs;
  readonly objects: ObjectStore | undefined;
  /** Of this process; emptied by `close`. */
  readonly scratchFolder: string;
  workOf(backfillId: string): WorkPlace;
  /** Backfills that have something in the work folder; none where it is a bucket, whose own rules can forget what is old. */
  backfills(): Promise<string[]>;
  close(): Promise<void>;
}

/** `work`: the setting `backfillWork`. */
export async function openStorage(work: string, settings: StorageSettings): Promise<Storage> {
  const scratchFolder = await mkdtemp(join(tmpdir(), 'millrace-backfill-'));
  const objects = openObjects(settings);
  const engine = await Engine.open({ threads: settings.backfillThreads, memoryBytes: settings.backfillMemoryBytes, scratchFolder });
  const inputs = new LocalInputs({ scratchFolder, objects });
  const root = locate(work);
  return {
    engine, inputs, objects, scratchFolder,
    backfills: async () => (root.kind === 'file' ? new WorkFolder(root.path).list('.') : []),
    workOf: (backfillId) => {
      if (root.kind === 'file') return new WorkFolder(join(root.path, backfillId));
      if (!objects) throw new Error(`${work}: no object store is configured`);
      return new WorkBucket({ objects, bucket: root.bucket, prefix: `${root.key.replace(/\/$/, '')}/${backfillId}`, scratchFolder: join(scratchFolder, backfillId) });
    },
    close: async () => {
      await inputs.close();
      engine.close();
      await rm(scratchFolder, { recursive: true, force: true });
    },
  };
}

function openObjects({ s3Endpoint, s3Region, s3AccessKey, s3SecretKey, s3SessionToken }: StorageSettings): ObjectStore | undefined {
  if (s3Endpoint === undefined && s3AccessKey === undefined) return undefined;
  return new ObjectStore({
    endpoint: s3Endpoint ?? `https://s3.${s3Region}.amazonaws.com`, region: s3Region,
    ...(s3AccessKey !== undefined && { accessKey: s3AccessKey }), ...(s3SecretKey !== undefined && { secretKey: s3SecretKey }),
    ...(s3SessionToken !== undefined && { sessionToken: s3SessionToken }),
  });
}
