// What a finished backfill was: written last, so where it stands, the output is whole.
import type { Format } from './job.ts';
import type { SourceFile } from './plan.ts';

export interface FileSummary {
  readonly uri: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly rows: number;
}

/** What only the caller knows. */
export interface RunFacts {
  readonly id: string;
  readonly model: { readonly name: string; readonly version: number; readonly digest: string };
  /** `{ millrace, node, onnxruntime, … }`. */
  readonly versions: Readonly<Record<string, string>>;
  /** ISO 8601. */
  readonly startedAt: string;
  readonly finishedAt: string;
}

export interface Manifest {
  readonly format_version: 1;
  readonly id: string;
  readonly model: RunFacts['model'];
  readonly versions: RunFacts['versions'];
  readonly started_at: string;
  readonly finished_at: string;
  readonly input: { readonly uri: string; readonly files: readonly { readonly uri: string; readonly size_bytes: number; readonly version: string }[] };
  readonly rows: { readonly input: number; readonly output: number; readonly failed: number };
  readonly chunks: number;
  readonly output: ManifestFile & { readonly format: Format };
  readonly errors: ManifestFile | null;
}

interface ManifestFile {
  readonly uri: string;
  readonly size_bytes: number;
  readonly sha256: string;
  readonly rows: number;
}

export function manifestOf(facts: RunFacts, { input, chunks, format, output, errors }: {
  readonly input: { readonly uri: string; readonly files: readonly SourceFile[]; readonly rows: number };
  readonly chunks: number;
  readonly format: Format;
  readonly output: FileSummary;
  readonly errors: FileSummary | undefined;
}): Manifest {
  return {
    format_version: 1,
    id: facts.id,
    model: facts.model,
    versions: facts.versions,
    started_at: facts.startedAt,
    finished_at: facts.finishedAt,
    input: { uri: input.uri, files: input.files.map(({ uri, sizeBytes, version }) => ({ uri, size_bytes: sizeBytes, version })) },
    rows: { input: input.rows, output: output.rows, failed: errors?.rows ?? 0 },
    chunks,
    output: { format, ...fileOf(output) },
    errors: errors ? fileOf(errors) : null,
  };
}

function fileOf({ uri, sizeBytes, sha256, rows }: FileSummary): ManifestFile {
  return { uri, size_bytes: sizeBytes, sha256, rows };
}
