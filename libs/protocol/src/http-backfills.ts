// The public API's bodies for backfills.
import Type, { type Static } from 'typebox';
import { backfillFormats, backfillOutputFormats, type BackfillRecord, backfillStates } from './backfill.ts';
import type { Problem } from './errors.ts';
import { ProblemDocument } from './http.ts';
import { modelRefPattern } from './model-ref.ts';
import { attempts, priorities } from './prediction.ts';
import { closed, orNull } from './schema.ts';

export const backfillLimits = {
  uriLength: 2048,
  columns: 65_536,
  columnLength: 256,
  chunkRows: 1_048_576,
} as const;

const place = (description: string, examples: string[]) => Type.String({ minLength: 1, maxLength: backfillLimits.uriLength, description, examples });
const column = Type.String({ minLength: 1, maxLength: backfillLimits.columnLength });
const columns = Type.Array(column, { minItems: 1, maxItems: backfillLimits.columns });
const character = (description: string) => Type.Optional(Type.String({ minLength: 1, maxLength: 1, description }));

export const BackfillRequest = Type.Object({
  model: Type.String({ pattern: modelRefPattern, description: '`name` (its newest version), `name@version` or `name@alias`. The version is pinned now', examples: ['digits', 'digits@2'] }),
  input: Type.Object({
    uri: place('A file, a glob of many files, or the same on an object store; in one of the places that the server allows', ['data.csv', 's3://bucket/rows/*.parquet']),
    format: Type.Optional(Type.Enum([...backfillFormats], { description: 'By the name’s ending where it is left out. `openai-batch`: lines with `custom_id` and `body`, whose members are the columns' })),
    header: Type.Optional(Type.Boolean({ description: 'Whether CSV has a header; found out where it is left out' })),
    delimiter: character('Between the fields of CSV; found out where it is left out'),
    quote: character('Around fields of CSV; `"` by default'),
  }, closed),
  output: Type.Object({
    uri: place('The file to write; in one of the places that the server allows', ['out.parquet', 's3://bucket/out.csv']),
    format: Type.Optional(Type.Enum([...backfillOutputFormats], { description: 'By the name’s ending where it is left out' })),
    vectors: Type.Optional(Type.Enum(['lists', 'columns'], { description: 'Where a row’s output is a vector: one column that holds a list, or a column an element (the default for CSV)' })),
  }, closed),
  mapping: Type.Optional(Type.Record(Type.String(), Type.Union([column, columns]), {
    description: 'By the model’s input: the columns that make a row of it, in order, or the one that holds lists. By default a column of the input’s name, '
      + 'or, where the model has one input, all columns but `id_column` and those in `carry`',
  })),
  id_column: Type.Optional(Type.String({ minLength: 1, maxLength: backfillLimits.columnLength, description: 'The column that names a row in the output; the row’s number, from 0, by default' })),
  carry: Type.Optional(Type.Array(column, { uniqueItems: true, maxItems: backfillLimits.columns, description: 'Columns of the input that stand in the output too' })),
  max_error_ratio: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'It stops, failed, once more than this share of all rows has failed; 1 by default: it never does' })),
  max_attempts: Type.Optional(Type.Integer({ minimum: 1, maximum: attempts.most, description: `How often rows are run at most where they fail for a reason that may pass; ${attempts.default} by default` })),
  priority: Type.Optional(Type.Integer({ minimum: priorities.first, maximum: priorities.last, description: `Among backfills, a lower number runs first; ${priorities.default} by default. Predictions always run before them` })),
  chunk_rows: Type.Optional(Type.Integer({ minimum: 1, maximum: backfillLimits.chunkRows, description: 'Rows that a worker takes at once, and that are run again if it dies; by the size of a row where it is left out' })),
}, { ...closed, description: 'One model over all rows of one input' });
export type BackfillRequest = Static<typeof BackfillRequest>;

export const Backfill = Type.Object({
  id: Type.String(),
  object: Type.Literal('backfill'),
  status: Type.Enum([...backfillStates]),
  model: Type.String(),
  version: Type.Integer(),
  created_at: Type.String({ format: 'date-time' }),
  started_at: orNull('string', 'When work on it began', { format: 'date-time' }),
  completed_at: orNull('string', 'When it ended, however it did', { format: 'date-time' }),
  rows: Type.Object({
    total: orNull('integer', 'Rows of the input; null until it has been read'),
    done: Type.Integer({ description: 'Rows with a result' }),
    failed: Type.Integer({ description: 'Rows that could not be read or that the model refused: in the end they stand in the file of errors' }),
  }),
  bytes_read: orNull('integer', 'Bytes of the input that have been read'),
  rows_per_second: orNull('number', 'Over the last seconds; null unless it runs'),
  eta_seconds: orNull('number', 'Seconds until all rows are run, at this rate'),
  rounds: Type.Integer({ description: 'How often the rows that failed were run again' }),
  input: Type.Object({ uri: Type.String() }),
  output: Type.Object({ uri: Type.String() }, { description: 'It is there once the backfill is completed, and never in part' }),
  errors: Type.Unsafe<{ readonly uri: string } | null>({ type: ['object', 'null'], properties: { uri: { type: 'string' } }, description: 'The file of the rows that failed, with their number, the reason and what stood there' }),
  manifest: Type.Unsafe<{ readonly uri: string } | null>({ type: ['object', 'null'], properties: { uri: { type: 'string' } }, description: 'The file with counts, checksums and what was run' }),
  error: Type.Unsafe<Problem | null>({ ...ProblemDocument, type: ['object', 'null'] }),
  urls: Type.Object({ get: Type.String(), pause: Type.String(), resume: Type.String(), cancel: Type.String(), retry: Type.String() }),
});
export type Backfill = Static<typeof Backfill>;

export const BackfillPage = Type.Object({
  backfills: Type.Array(Backfill, { description: 'Newest first' }),
  next_page_token: Type.String({ description: 'For `page_token`; empty on the last page. A page may be short, even empty, and not be the last' }),
});
export type BackfillPage = Static<typeof BackfillPage>;

/** The backfill as the API shows it. */
export function presentBackfill({ id, createdAt, spec: { model, input, output }, progress }: BackfillRecord): Backfill {
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
    input: { uri: input.uri },
    output: { uri: output.uri },
    errors: files ? { uri: files.errors } : null,
    manifest: files ? { uri: files.manifest } : null,
    error: error ?? null,
    urls: { get: url, pause: `${url}/pause`, resume: `${url}/resume`, cancel: `${url}/cancel`, retry: `${url}/retry` },
  };
}

function isoTime(at: number): string {
  return new Date(at).toISOString();
}
