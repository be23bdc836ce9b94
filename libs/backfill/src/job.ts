// A backfill's data, in the words of `protocol`; and what a name says of a format.
import type { BackfillFormat } from '@millrace/protocol';

export { BackfillData, type BackfillFormat as Format, BackfillInput, backfillMembers, BackfillOutput, type Encoding, type VectorForm } from '@millrace/protocol';

/** `csv` for `a/b.csv.gz`; undefined where the name does not tell. */
export function formatOfName(uri: string): BackfillFormat | undefined {
  const [, extension] = /\.(csv|tsv|txt|ndjson|jsonl|json|parquet|pq)(?:\.gz)?$/i.exec(uri) ?? [];
  switch (extension?.toLowerCase()) {
    case 'csv': case 'tsv': case 'txt': return 'csv';
    case 'ndjson': case 'jsonl': case 'json': return 'ndjson';
    case 'parquet': case 'pq': return 'parquet';
    default: return undefined;
  }
}
