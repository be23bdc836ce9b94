// From the options of `millrace backfill` to what the API is asked for.
import { resolve } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { attempts, type Backfill, type BackfillData, type BackfillFormat, type BackfillRequest, type Encoding, priorities, type VectorForm } from '@millrace/protocol';

export interface RequestOptions {
  readonly model: string;
  readonly input: string;
  readonly output: string;
  readonly format?: BackfillFormat;
  readonly outputFormat?: BackfillFormat;
  readonly header?: boolean;
  readonly delimiter?: string;
  readonly quote?: string;
  readonly escape?: string;
  readonly encoding?: Encoding;
  readonly missing?: 'refuse' | 'nan';
  readonly map?: NonNullable<BackfillData['mapping']>;
  readonly id?: string;
  readonly carry?: string[];
  readonly vectors?: VectorForm;
  readonly overwrite?: boolean;
  readonly maxErrorRatio?: number;
  readonly maxAttempts?: number;
  readonly priority?: number;
  readonly chunkRows?: number;
}

export function requestOf(options: RequestOptions): BackfillRequest {
  const { model, format, header, delimiter, quote, escape, encoding, missing, map, id, carry, maxErrorRatio } = options;
  const { outputFormat, vectors, overwrite, maxAttempts, priority, chunkRows } = options;
  return {
    model,
    input: { uri: wholeName(options.input), ...given({ format, delimiter, quote, escape, header, encoding, missing }) },
    output: { uri: wholeName(options.output), ...given({ format: outputFormat, vectors, overwrite }) },
    ...given({ mapping: map, id_column: id, carry, max_error_ratio: maxErrorRatio, max_attempts: maxAttempts, priority, chunk_rows: chunkRows }),
  };
}

/** Whether the backfill is what the request asks for: then it need not be made again. */
export function isSame(backfill: Backfill, request: BackfillRequest): boolean {
  const [name, version = ''] = request.model.split('@');
  const wanted = /^\d+$/.test(version) ? Number(version) : backfill.version;
  return backfill.model === name && backfill.version === wanted && isDeepStrictEqual(membersOf(backfill), membersOf(request));
}

function membersOf({ input, output, mapping, id_column, carry, max_error_ratio, max_attempts, priority, chunk_rows }: Backfill | BackfillRequest) {
  return {
    input, output, mapping: mapping ?? null, id_column: id_column ?? null, carry: carry ?? [], max_error_ratio: max_error_ratio ?? null,
    max_attempts: max_attempts ?? attempts.default, priority: priority ?? priorities.default, chunk_rows: chunk_rows ?? null,
  };
}

/** The API's processes have working folders of their own. */
function wholeName(name: string): string {
  return /^[a-z][a-z0-9+.-]*:\/\//i.test(name) ? name : resolve(name);
}

type Given<Members> = { [Name in keyof Members]?: Exclude<Members[Name], undefined> };

function given<Members extends object>(members: Members): Given<Members> {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)) as Given<Members>;
}
