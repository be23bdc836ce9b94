// A backfill as processes hand it to each other: what was asked for, how far it is, and its chunks.
import { randomBytes } from 'node:crypto';
import type { BackfillData } from './backfill-data.ts';
import type { ModelVersionId, Webhook } from './bundle.ts';
import type { ErrorCode, Problem } from './errors.ts';
import type { Signature } from './signature.ts';

export const backfillStates = ['validating', 'staging', 'running', 'finalizing', 'paused', 'completed', 'failed', 'canceled'] as const;
export type BackfillState = (typeof backfillStates)[number];

/** The states in which somebody works on it. */
export type ActiveState = 'validating' | 'staging' | 'running' | 'finalizing';

const active: readonly BackfillState[] = ['validating', 'staging', 'running', 'finalizing'];

export function isActive(state: BackfillState): state is ActiveState {
  return active.includes(state);
}

export const backfillEnds = ['completed', 'failed', 'canceled'] as const satisfies readonly BackfillState[];
/** The states in which nobody works on it, unless it is resumed or run again. */
export type BackfillEnd = (typeof backfillEnds)[number];

export function isBackfillEnd(state: BackfillState): state is BackfillEnd {
  return backfillEnds.some((end) => end === state);
}

export const backfillEvents = ['backfill.progress', 'backfill.completed', 'backfill.failed', 'backfill.canceled'] as const;
export type BackfillEvent = (typeof backfillEvents)[number];

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
  readonly data: BackfillData;
  /** How often a chunk is run where it fails for a reason that may pass. */
  readonly maxAttempts: number;
  /** Within the bulk lane: lower ones are claimed and run first. */
  readonly priority: number;
  /** Most rows of a chunk. */
  readonly chunkRows?: number;
  /** Who is told of its end without asking for it. */
  readonly webhook?: Webhook<BackfillEvent>;
}

/** Counted in rows of the input. */
export interface BackfillRows {
  /** Undefined until the input has been read; Parquet tells it before. */
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
  readonly files?: { readonly errors?: string; readonly manifest: string };
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
  return earliestBackfillId(at) + randomBytes(10).toString('hex');
}

/** Before every id of a backfill that was made at this time or later (milliseconds since the epoch). */
export function earliestBackfillId(at: number): string {
  return `bf_${Math.max(0, at).toString(16).padStart(12, '0')}`;
}

export function isBackfillId(text: string): boolean {
  return /^bf_[0-9a-f]{32}$/.test(text);
}

/** A part of the input that one worker takes on at a time. */
export interface Chunk {
  /** From 0, in the order of the input. */
  readonly index: number;
  /** The number of its first row, from 1 over all files. */
  readonly firstRow: number;
  readonly rows: number;
  /** Which of the source's files its rows come from. */
  readonly file: number;
  /** The line of that file where it begins, from 1; 0 where there are no lines. */
  readonly firstLine: number;
  readonly data: TextBlock | TextRange | ParquetRows;
}

/** A staged file with whole records as they stood in the input, in UTF-8. */
export interface TextBlock {
  readonly block: string;
  readonly sizeBytes: number;
  readonly longestRowBytes: number;
}

/** Whole records of a text file that stays where it is. */
export interface TextRange {
  /** In its file, from 0. */
  readonly firstByte: number;
  readonly sizeBytes: number;
  readonly longestRowBytes: number;
}

/** Rows of a Parquet file that stays where it is. */
export interface ParquetRows {
  /** The first of them in its file, from 0. */
  readonly offset: number;
}

/** A chunk as a job names it. */
export interface ChunkRef {
  readonly backfillId: string;
  readonly chunk: Chunk;
  /** How often failed rows were run again: its part replaces that of the round before. */
  readonly round: number;
  /** 1 unless it failed before, in this round. */
  readonly attempt: number;
}

/** A chunk's job. The same for whoever asks for it, so that it is queued once. */
export function chunkJobId({ backfillId, chunk, round, attempt }: ChunkRef): string {
  return `${backfillId}-${chunk.index}-${round}-${attempt}`;
}

/** What came of a chunk. */
export type ChunkResult =
  /** Its part is written: so many rows with a result, so many that failed. */
  | { readonly ok: true; readonly done: number; readonly failed: number }
  | { readonly ok: false; readonly code: ErrorCode; readonly detail: string };
