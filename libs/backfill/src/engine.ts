// One DuckDB for a process, with bounds on what it may take.
import { type DuckDBConnection, DuckDBInstance, type DuckDBValue } from '@duckdb/node-api';
import { MillraceError } from '@millrace/protocol';
import { literal } from './sql.ts';

export interface EngineOptions {
  /** DuckDB's own threads, beside those of Node that wait for it. */
  readonly threads: number;
  readonly memoryBytes: number;
  /** Where it may spill to. */
  readonly scratchFolder: string;
}

export class Engine {
  readonly #instance: DuckDBInstance;

  private constructor(instance: DuckDBInstance) {
    this.#instance = instance;
  }

  static async open({ threads, memoryBytes, scratchFolder }: EngineOptions): Promise<Engine> {
    const instance = await DuckDBInstance.create(':memory:', {
      threads: String(threads),
      memory_limit: `${Math.ceil(memoryBytes / 1024)}KiB`,
      temp_directory: scratchFolder,
      // Nothing is read twice: the cache of files would only fill the memory there is.
      enable_external_file_cache: 'false',
      // Nothing is fetched from the internet, and files that a user owns decide nothing.
      autoinstall_known_extensions: 'false',
      autoload_known_extensions: 'false',
      allow_community_extensions: 'false',
    });
    return new Engine(instance);
  }

  /** Runs `work` on a connection of its own, whose temporary tables nobody else sees; an abort interrupts its query. */
  async use<T>(work: (connection: DuckDBConnection) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const connection = await this.connect();
    const interrupt = (): void => connection.interrupt();
    signal?.addEventListener('abort', interrupt);
    try {
      signal?.throwIfAborted();
      return await work(connection);
    } catch (error) {
      signal?.throwIfAborted();
      throw engineFailure(error);
    } finally {
      signal?.removeEventListener('abort', interrupt);
      connection.closeSync();
    }
  }

  connect(): Promise<DuckDBConnection> {
    return this.#instance.connect();
  }

  close(): void {
    this.#instance.closeSync();
  }
}

export async function rowsOfQuery(connection: DuckDBConnection, sql: string): Promise<DuckDBValue[][]> {
  return (await connection.runAndReadAll(sql)).getRows();
}

/** How many rows a COPY wrote. */
export async function copyTo(connection: DuckDBConnection, { select, path, options }: { readonly select: string; readonly path: string; readonly options: string }): Promise<number> {
  const [row] = await rowsOfQuery(connection, `COPY (${select}) TO ${literal(path)} (${options})`);
  return Number(row?.[0]);
}

/** DuckDB tells of a full disk or of too little memory by text alone. */
export function engineFailure(error: unknown): unknown {
  if (error instanceof MillraceError || !(error instanceof Error)) return error;
  const [line = ''] = error.message.split('\n');
  const storage = /No space left on device|Could not write|Cannot open file|failed to offload|Out of Memory Error|Read-only file system|Permission denied/i.test(error.message);
  return storage ? new MillraceError('storage-unavailable', line, { cause: error }) : error;
}
