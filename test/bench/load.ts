// The load: wrk, one thread of C, so that the generator takes as little as can be of the two cores that are measured.
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

export interface Load {
  readonly url: string;
  readonly body: string;
  /** The Prefer header. */
  readonly prefer?: string;
  /** What a good answer contains; every answer is checked. */
  readonly expect: string;
  readonly connections: number;
  readonly seconds: number;
  /** Whether the answers' ids are wanted: taking them out costs the generator time. */
  readonly ids?: boolean;
}

export interface LoadResult {
  readonly good: number;
  readonly bad: number;
  readonly firstBad: string;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Ids of the predictions in the answers, where they were wanted. */
  readonly ids: readonly string[];
}

const script = fileURLToPath(new URL('load.lua', import.meta.url));

/** Sends requests on every connection, one after another, for so many seconds. */
export async function runLoad(wrk: string, { url, body, prefer = '', expect, connections, seconds, ids: wanted = false }: Load): Promise<LoadResult> {
  const folder = await mkdtemp(path.join(tmpdir(), 'millrace-bench-'));
  try {
    const idsFile = path.join(folder, 'ids');
    const args = ['-t1', `-c${connections}`, `-d${seconds}s`, '--timeout', '60s', '-s', script, url, '--', body, prefer, expect, wanted ? idsFile : ''];
    const { stdout } = await promisify(execFile)(wrk, args, { maxBuffer: 2 ** 24 });
    const figures = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Omit<LoadResult, 'ids'>;
    const ids = wanted ? (await readFile(idsFile, 'utf8')).split('\n').filter((id) => id !== '') : [];
    return { ...figures, ids };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
