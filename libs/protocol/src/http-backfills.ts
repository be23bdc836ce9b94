// The public API's bodies for backfills.
import Type, { type Static } from 'typebox';
import { type BackfillRecord, backfillStates, backfillWishes } from './backfill.ts';
import { type BackfillData, BackfillInput, backfillMembers, BackfillOutput } from './backfill-data.ts';
import type { Problem } from './errors.ts';
import { ProblemDocument } from './http.ts';
import { BackfillWebhook } from './http-webhooks.ts';
import { modelRefPattern } from './model-ref.ts';
import { attempts, priorities } from './prediction.ts';
import { closed, orNull } from './schema.ts';

export const backfillLimits = { leastChunkRows: 16, mostChunkRows: 1_048_576 } as const;

export const BackfillRequest = Type.Object({
  model: Type.String({ pattern: modelRefPattern, description: '`name` (its newest version), `name@version` or `name@alias`. The version is pinned now', examples: ['digits', 'digits@2'] }),
  ...backfillMembers,
  max_attempts: Type.Optional(Type.Integer({ minimum: 1, maximum: attempts.most, description: `How often rows are run at most where they fail for a reason that may pass; ${attempts.default} by default` })),
  priority: Type.Optional(Type.Integer({ minimum: priorities.first, maximum: priorities.last, description: `Among backfills, a lower number runs first; ${priorities.default} by default. Predictions always run before them` })),
  chunk_rows: Type.Optional(Type.Integer({ minimum: backfillLimits.leastChunkRows, maximum: backfillLimits.mostChunkRows, description: 'Most rows that a worker takes on at once, and that are run again where it dies; by default about 4 seconds of work' })),
  webhook: Type.Optional(BackfillWebhook),
}, { ...closed, description: 'One model over all rows of one input' });
export type BackfillRequest = Static<typeof BackfillRequest>;

const wordOrNull = (words: readonly string[], description: string) => Type.Unsafe<string | null>({ type: ['string', 'null'], enum: [...words, null], description });
const file = (description: string) => Type.Unsafe<{ readonly uri: string } | null>({ type: ['object', 'null'], properties: { uri: { type: 'string' } }, description });

export const Backfill = Type.Object({
  id: Type.String(),
  object: Type.Literal('backfill'),
  status: Type.Enum([...backfillStates]),
  requested: wordOrNull(backfillWishes, 'What was asked of it and is not done yet'),
  model: Type.String(),
  version: Type.Integer(),
  created_at: Type.String({ format: 'date-time' }),
  started_at: orNull('string', 'When work on it began', { format: 'date-time' }),
  completed_at: orNull('string', 'When it ended, however it did', { format: 'date-time' }),
  rows: Type.Object({
    total: orNull('integer', 'Rows of the input; null until it has been read, or, in Parquet, looked at'),
    done: Type.Integer({ description: 'Rows with a result' }),
    failed: Type.Integer({ description: 'Rows that could not be read or that the model refused: in the end they stand in the file of errors' }),
  }),
  bytes_read: orNull('integer', 'Bytes of the input that have been read'),
  rows_per_second: orNull('number', 'Over the last seconds; null unless it runs'),
  eta_seconds: orNull('number', 'Seconds until all rows are run, at this rate'),
  rounds: Type.Integer({ description: 'How often the rows that failed were run again' }),
  input: BackfillInput,
  output: Type.Object(BackfillOutput.properties, { description: 'As it was asked for. The file is there once the backfill is completed, and never in part' }),
  mapping: Type.Unsafe<BackfillData['mapping'] | null>({ type: ['object', 'null'], additionalProperties: true, description: 'As it was asked for' }),
  id_column: orNull('string', 'As it was asked for'),
  carry: Type.Array(Type.String()),
  max_error_ratio: orNull('number', 'As it was asked for'),
  max_attempts: Type.Integer(),
  priority: Type.Integer(),
  chunk_rows: orNull('integer', 'As it was asked for'),
  errors: file('The rows that failed, with their number, the reason and what stood there; null where none did'),
  manifest: file('Counts, checksums and what was run'),
  error: Type.Unsafe<Problem | null>({ ...ProblemDocument, type: ['object', 'null'] }),
  urls: Type.Object({ get: Type.String(), pause: Type.String(), resume: Type.String(), cancel: Type.String(), retry: Type.String() }),
});
export type Backfill = Static<typeof Backfill>;
export type BackfillSummary = Omit<Backfill, 'requested' | 'input' | 'mapping' | 'id_column' | 'carry' | 'max_error_ratio' | 'max_attempts' | 'priority' | 'chunk_rows'>;

export const BackfillPage = Type.Object({
  backfills: Type.Array(Backfill, { description: 'Newest first' }),
  next_page_token: Type.String({ description: 'For `page_token`; empty on the last page. A page may be short, even empty, and not be the last' }),
});
export type BackfillPage = Static<typeof BackfillPage>;

/** The backfill as the API shows it. */
export function presentBackfill(backfill: BackfillRecord): Backfill {
  const { spec: { data: { input, mapping, id_column, carry = [], max_error_ratio }, maxAttempts, priority, chunkRows }, wish } = backfill;
  return {
    ...presentBackfillSummary(backfill), requested: wish ?? null,
    input, mapping: mapping ?? null, id_column: id_column ?? null, carry, max_error_ratio: max_error_ratio ?? null,
    max_attempts: maxAttempts, priority, chunk_rows: chunkRows ?? null,
  };
}

/** The backfill as events tell of it: what came of it, not what was asked for. */
export function presentBackfillSummary({ id, createdAt, spec: { model, data: { output } }, progress }: BackfillRecord): BackfillSummary {
  const { state, startedAt, completedAt, rows: { total, done, failed }, bytesRead, rowsPerSecond, round, files, error } = progress;
  const left = total === undefined ? undefined : total - done - failed;
  const url = `/api/v1/backfills/${id}`;
  return {
    id, object: 'backfill', status: state, model: model.name, version: model.version,
    created_at: isoTime(createdAt), started_at: startedAt === undefined ? null : isoTime(startedAt), completed_at: completedAt === undefined ? null : isoTime(completedAt),
    rows: { total: total ?? null, done, failed },
    bytes_read: bytesRead ?? null,
    rows_per_second: rowsPerSecond ?? null,
    eta_seconds: left !== undefined && rowsPerSecond ? Math.ceil(left / rowsPerSecond) : null,
    rounds: round,
    output,
    errors: files?.errors === undefined ? null : { uri: files.errors },
    manifest: files ? { uri: files.manifest } : null,
    error: error ?? null,
    urls: { get: url, pause: `${url}/pause`, resume: `${url}/resume`, cancel: `${url}/cancel`, retry: `${url}/retry` },
  };
}

function isoTime(at: number): string {
  return new Date(at).toISOString();
}
