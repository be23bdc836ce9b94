// What a backfill's check has found out and everybody else goes by: written once, before the first row is read.
import type { Chunk, Dtype, TextBlock, TextRange } from '@millrace/protocol';
import type { BackfillData, Encoding, Format, VectorForm } from './job.ts';

export type { Chunk, ParquetRows, TextBlock, TextRange } from '@millrace/protocol';

/** One file of the input, as it was when the backfill began. */
export interface SourceFile {
  /** A path or `s3://bucket/key`. */
  readonly uri: string;
  readonly sizeBytes: number;
  /** What changes when the content does: the time of its last change in nanoseconds, or the object's etag. */
  readonly version: string;
}

export interface CsvDialect {
  readonly delimiter: string;
  readonly quote: string;
  readonly escape: string;
  readonly header: boolean;
}

/** Where a value stands: the members on the way to it in NDJSON, else the one name of a column. */
export interface ColumnRef {
  readonly name: string;
  readonly path: readonly string[];
  /** CSV: its place, from 0. */
  readonly index?: number;
  /** Parquet: DuckDB's type. */
  readonly type?: string;
}

export interface InputPlan {
  readonly name: string;
  readonly dtype: Dtype;
  /** Dimensions after the first; -1 where each row may have its own length. */
  readonly rowShape: readonly number[];
  /** `columns`: one value each, in the order of the tensor; `list`: one column whose lists are nested `depth` deep. */
  readonly from: 'columns' | 'list';
  readonly depth: number;
  /** The outermost of these lists has the row as its one element: as a prediction's inputs hold a batch of one. */
  readonly inBatch: boolean;
  readonly columns: readonly ColumnRef[];
}

export interface OutputPlan {
  readonly name: string;
  readonly dtype: Dtype;
  readonly rowShape: readonly number[];
  /** `value`: one a row. */
  readonly form: 'value' | VectorForm;
}

export interface Plan {
  readonly formatVersion: 1;
  readonly data: BackfillData;
  readonly source: {
    readonly format: Format;
    readonly encoding: Encoding;
    readonly csv?: CsvDialect;
    readonly files: readonly SourceFile[];
    /** The columns of a CSV file, in order. */
    readonly columns: readonly string[];
    /** Parquet: the rows of each row group of each file. */
    readonly rowGroups?: readonly (readonly number[])[];
  };
  readonly inputs: readonly InputPlan[];
  readonly id?: ColumnRef;
  readonly carry: readonly ColumnRef[];
  readonly outputFormat: Format;
  readonly outputs: readonly OutputPlan[];
  /** Whether each row has a label beside its outputs. */
  readonly labels: boolean;
  readonly limits: ChunkLimits;
}

/** Fixed at the start; how many rows a chunk has within them may differ from one to the next. */
export interface ChunkLimits {
  readonly rows: number;
  readonly bytes: number;
  /** A longer row ends the backfill. */
  readonly rowBytes: number;
}

/** A DuckDB query costs about 5 ms whatever it reads: of 16,384 rows of 64 numbers, 7 % of the time to read them. */
export const defaultLimits: ChunkLimits = { rows: 16_384, bytes: 16 * 1024 * 1024, rowBytes: 16 * 1024 * 1024 };

/** Whether a chunk's rows are records of text. */
export function isText(data: Chunk['data']): data is TextBlock | TextRange {
  return 'sizeBytes' in data;
}

/** The values that a row shape holds; undefined where a dimension is dynamic. */
export function widthOf(rowShape: readonly number[]): number | undefined {
  return rowShape.includes(-1) ? undefined : rowShape.reduce((product, dim) => product * dim, 1);
}

/** The columns that are read, each once. */
export function usedColumns({ inputs, id, carry }: Pick<Plan, 'inputs' | 'id' | 'carry'>): readonly ColumnRef[] {
  const refs = [...inputs.flatMap(({ columns }) => columns), ...(id ? [id] : []), ...carry];
  return [...new Map(refs.map((ref) => [ref.name, ref])).values()];
}
