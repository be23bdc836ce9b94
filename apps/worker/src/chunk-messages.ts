// What the main thread and the chunk thread say to each other. Tensors' bytes are transferred on their way to the model.
import type { Outcome, RowGroup } from '@millrace/backfill';
import type { Chunk, ErrorCode } from '@millrace/protocol';
import type { StorageSettings } from '@millrace/backfill/settings';

/** The thread's `workerData`; `work` is the setting `backfillWork`. */
export interface ChunkThreadData {
  readonly work: string;
  readonly settings: StorageSettings;
}

export type ChunkRequest =
  | { readonly type: 'hello' }
  | { readonly type: 'open'; readonly backfillId: string; readonly chunk: Chunk }
  /** `key`: what opening it has given. */
  | { readonly type: 'write'; readonly key: number; readonly outcome: Outcome }
  | { readonly type: 'close'; readonly key: number }
  | { readonly type: 'stop' };

export interface OpenedChunk {
  readonly key: number;
  readonly groups: readonly RowGroup[];
}

/** Rows of a part, and how many of them have an output. */
export interface WrittenPart {
  readonly rows: number;
  readonly written: number;
}

export type ChunkReply =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly code: ErrorCode; readonly detail: string }
  /** A bug: what the log is told. */
  | { readonly ok: false; readonly code: undefined; readonly detail: string };
