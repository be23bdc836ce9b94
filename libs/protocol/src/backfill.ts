// A backfill as processes hand it to each other: what was asked for, how far it is, and its chunks.
import { randomBytes } from 'node:crypto';
import type { ModelVersionId } from './bundle.ts';
import type { Problem } from './errors.ts';
import type { Signature } from './signature.ts';

export const backfillStates = ['validating', 'staging', 'running', 'finalizing', 'paused', 'completed', 'failed', 'canceled'] as const;
export type BackfillState = (typeof backfillStates)[number];

/** The states in which somebody works on it. */
export type ActiveState = 'validating' | 'staging' | 'running' | 'finalizing';

const active: readonly BackfillState[] = ['validating', 'staging', 'running', 'finalizing'];

export function isActive(state: BackfillState): state is ActiveState {
  return active.includes(state);
}

/** What may become of a state. Failed ones can be resumed where the cause is gone; completed ones run again over the rows that failed. */
const moves: Readonly<Record<BackfillState, readonly BackfillState[]>> = {
  validating: ['staging', 'paused', 'failed', 'canceled'],
  staging: ['running', 'paused', 'failed', 'canceled'],
  running: ['finalizing', 'paused', 'failed', 'canceled'],
  finalizing: ['completed', 'paused', 'failed', 'canceled'],
  paused: [...active, 'canceled'],
  failed: [...active, 'canceled'],
  completed: ['running'],
  canceled: [],
};

export const backfillWishes = ['pause', 'resume', 'cancel', 'retry'] as const;
/** What somebody asks of a backfill; its coordinator sees to it. */
export type BackfillWish = (typeof backfillWishes)[number];

/** Where a wish can be granted. */
export const wishStates: Readonly<Record<BackfillWish, readonly BackfillState[]>> = {
  pause: active,
  resume: ['paused', 'failed'],
  cancel: [...active, 'paused', 'failed'],
  retry: ['completed'],
};

export const backfillFormats = ['csv', 'ndjson', 'openai-batch', 'parquet'] as const;
/** `openai-batch`: lines with `custom_id` and `body`, whose members are the columns. */
export type BackfillFormat = (typeof backfillFormats)[number];

export const backfillOutputFormats = ['csv', 'ndjson', 'parquet'] as const;
export type BackfillOutputFormat = (typeof backfillOutputFormats)[number];

/** Where the rows come from. */
export interface BackfillInput {
  /** A path, a glob of many files, or the same on an object store: `s3://bucket/key`. */
  readonly uri: string;
  /** By the name's ending where it is left out. */
  readonly format?: BackfillFormat;
  /** Of CSV; found out where they are left out. */
  readonly header?: boolean;
  readonly delimiter?: string;
  readonly quote?: string;
}

export interface BackfillOutput {
  readonly uri: string;
  readonly format?: BackfillOutputFormat;
  /** A row's vector as one column that holds a list, or as a column an element. */
  readonly vectors?: 'lists' | 'columns';
}

/** The version that it runs, pinned when it was made. */
export interface PinnedModel extends ModelVersionId {
  readonly pool: string;
  readonly batched: boolean;
  readonly signature: Signature;
  readonly labels: readonly string[];
}

/** What was asked for. Nothing of it changes. */
export interface BackfillSpec {
  readonly model: PinnedModel;
  readonly input: BackfillInput;
  readonly output: BackfillOutput;
  /** By the model's input: the columns that make it, or the one that holds lists. Inputs and columns of the same name need no saying. */
  readonly mapping?: Readonly<Record<string, string | readonly string[]>>;
  readonly idColumn?: string;
  /** Columns of the input that stand in the output too. */
  readonly carry?: readonly string[];
  /** It fails once more than this share of its rows has failed. */
  readonly maxErrorRatio: number;
  /** How often a chunk is run where it fails for a reason that may pass. */
  readonly maxAttempts: number;
  /** Within the bulk lane: lower ones are claimed and run first. */
  readonly priority: number;
  /** Rows of a chunk; by the size of a row where it is left out. */
  readonly chunkRows?: number;
}

/** Counted in rows of the input. */
export interface BackfillRows {
  /** Undefined until the input has been read. */
  readonly total?: number;
  /** Rows with a result. */
  readonly done: number;
  /** Rows that could not be read, or that the model refused. */
  readonly failed: number;
}

/** How far it is: written by its coordinator. Times are milliseconds since the epoch. */
export interface BackfillProgress {
  readonly state: BackfillState;
  /** Where a paused or failed one goes on. */
  readonly phase: ActiveState;
  readonly startedAt?: number;
  readonly completedAt?: number;
  readonly rows: BackfillRows;
  /** Of the input, as it is stored; undefined until it is known. */
  readonly bytesRead?: number;
  /** Over the last seconds; undefined where it does not run. */
  readonly rowsPerSecond?: number;
  readonly error?: Problem;
  /** How often failed rows were run again. */
  readonly round: number;
  /** Written files; absent until they are there. */
  readonly files?: { readonly errors: string; readonly manifest: string };
}

export interface BackfillRecord {
  readonly id: string;
  readonly tenant: string;
  /** Milliseconds since the epoch. */
  readonly createdAt: number;
  readonly spec: BackfillSpec;
  readonly progress: BackfillProgress;
  /** What is asked of it and not granted yet. */
  readonly wish?: BackfillWish;
}

export const unstarted: BackfillProgress = { state: 'validating', phase: 'validating', rows: { done: 0, failed: 0 }, round: 0 };

/** The progress with another state. Throws where a state cannot become the other: a bug. */
export function moved(progress: BackfillProgress, state: BackfillState, changes: Partial<BackfillProgress> = {}): BackfillProgress {
  if (!moves[progress.state].includes(state)) throw new Error(`a backfill that is ${progress.state} cannot become ${state}`);
  const { error: _error, rowsPerSecond: _rate, ...kept } = progress;
  return { ...kept, state, phase: isActive(state) ? state : progress.phase, ...changes };
}

/** A new backfill's id: time-ordered and unguessable. `at`: milliseconds since the epoch. */
export function newBackfillId(at: number): string {
  return `bf_${at.toString(16).padStart(12, '0')}${randomBytes(10).toString('hex')}`;
}

export function isBackfillId(text: string): boolean {
  return /^bf_[0-9a-f]{32}$/.test(text);
}

/** A chunk as a job names it. */
export interface ChunkRef {
  readonly backfillId: string;
  /** From 0, in the order of the input. */
  readonly chunk: number;
  readonly rows: number;
  /** How often failed rows were run again: its part replaces that of the round before. */
  readonly round: number;
  /** 1 unless it failed before, in this round. */
  readonly attempt: number;
}

/** A chunk's job. The same for whoever asks for it, so that it is queued once. */
export function chunkJobId({ backfillId, chunk, round, attempt }: ChunkRef): string {
  return `${backfillId}-${chunk}-${round}-${attempt}`;
}

/** What came of a chunk. */
export type ChunkResult =
  /** Its part is written: so many rows with a result, so many that failed. */
  | { readonly ok: true; readonly done: number; readonly failed: number; readonly seconds: number }
  | { readonly ok: false; readonly error: Problem; readonly retryable: boolean };
