// `millrace backfill`: one model over all rows of a file, by a running API, or by processes that are started for this one run.
import { rm } from 'node:fs/promises';
import type { Backfill, BackfillRequest } from '@millrace/protocol';
import { isSame, requestOf, type RequestOptions } from '../backfill-request.ts';
import { Client, problemLines } from '../client.ts';
import { folderOf, startOneRun } from '../embedded/one-run.ts';
import { ask, count, duration, follow } from '../follow.ts';
import { interruption } from '../signals.ts';

export interface BackfillOptions extends RequestOptions {
  /** A running API. */
  readonly url: string | undefined;
  readonly key?: string;
  readonly workers: number;
  readonly models: string;
  readonly redisServer: string | undefined;
  /** Forgets what an earlier run has left. */
  readonly restart?: boolean;
  readonly json?: boolean;
  /** How the user called it. */
  readonly commandLine: readonly string[];
}

interface Ended {
  readonly backfill: Backfill;
  /** Rows that were run, and for how long, since this command began. */
  readonly rows: number;
  readonly seconds: number;
}

/** What became of it; undefined where it was stopped before it began. A second Ctrl-C ends with `interruptedCode`. */
export async function backfill(options: BackfillOptions, interruptedCode: number): Promise<Backfill['status'] | undefined> {
  const interrupted = interruption(interruptedCode);
  const ended = await (options.url === undefined ? runHere(options, interrupted) : runThere(options, options.url, interrupted));
  if (!ended) return undefined;
  const { status } = ended.backfill;
  if (options.json) process.stdout.write(`${JSON.stringify(ended.backfill, null, 2)}\n`);
  else if (status === 'completed') process.stdout.write(summaryOf(ended));
  if (status !== 'completed') process.stderr.write(`${reasonOf(ended.backfill)}\n${wayOn(ended.backfill, options)}\n`);
  return status;
}

async function runThere(options: BackfillOptions, url: string, interrupted: AbortSignal): Promise<Ended> {
  const client = new Client(url, options.key);
  return end(client, await begin(client, requestOf(options)), interrupted);
}

async function runHere(options: BackfillOptions, interrupted: AbortSignal): Promise<Ended | undefined> {
  const { redisServer } = options;
  if (!redisServer) throw new Error('there is no redis-server here: run `npm run setup`, or name a running API with --url');
  const request = requestOf(options);
  const output = request.output.uri;
  if (options.restart) await rm(folderOf(output), { recursive: true, force: true });
  process.stderr.write(`Starting Redis, the API, the dispatcher and ${options.workers} ${options.workers === 1 ? 'worker' : 'workers'} ...\n`);
  const own = await startOneRun({ ...options, redisServer, output });
  let worthKeeping = !own.fresh;
  try {
    if (interrupted.aborted) return undefined;
    const begun = await begin(own.client, request);
    worthKeeping = true;
    const ended = await end(own.client, begun, interrupted);
    worthKeeping = isWorthKeeping(ended.backfill);
    return ended;
  } finally {
    await own.stop();
    if (!worthKeeping) await own.forget();
  }
}

async function end(client: Client, begun: Backfill, interrupted: AbortSignal): Promise<Ended> {
  const startedAt = performance.now();
  const backfill = await follow(client, begun.id, interrupted);
  return { backfill, rows: rowsOf(backfill) - rowsOf(begun), seconds: (performance.now() - startedAt) / 1000 };
}

/** Makes it, or goes on with what the same command has begun before. */
async function begin(client: Client, request: BackfillRequest): Promise<Backfill> {
  const open = (await client.backfills()).filter(({ status, output: { uri } }) => !['completed', 'canceled'].includes(status) && uri === request.output.uri);
  const same = open.find((backfill) => isSame(backfill, request));
  const other = open.find(({ status }) => status !== 'failed');
  if (!same && other) throw new Error(`${other.id} is ${other.status} and writes to the same output, but it was made with other options: end it first, with --restart where it was started by this command, else by \`millrace backfill cancel ${other.id}\``);
  const begun = same ?? await client.createBackfill(request);
  process.stderr.write(`${begun.model}@${begun.version}: ${begun.id}${same ? `, which goes on at ${count(rowsOf(same))} rows` : ''}\n`);
  if (begun.requested === 'pause' || begun.status === 'paused' || begun.status === 'failed') await ask(client, begun.id, 'resume');
  return begun;
}

function rowsOf({ rows: { done, failed } }: Backfill): number {
  return done + failed;
}

/** What has begun and not ended can go on. */
function isWorthKeeping(backfill: Backfill): boolean {
  return (backfill.status === 'paused' || backfill.status === 'failed') && rowsOf(backfill) > 0;
}

function summaryOf({ backfill, rows, seconds }: Ended): string {
  const { rows: { total, done, failed }, output, errors, manifest } = backfill;
  const inThisRun = rows === Number(total) ? '' : `, ${count(rows)} of them in this run`;
  return [
    `  rows      ${count(Number(total))}${inThisRun}`,
    `  written   ${count(done)}`,
    `  failed    ${count(failed)}`,
    `  time      ${duration(seconds)}   ${count(Math.round(rows / seconds))} rows/s`,
    `  output    ${output.uri}`,
    ...(errors ? [`  errors    ${errors.uri}`] : []),
    `  manifest  ${manifest?.uri ?? ''}`,
    '',
  ].join('\n');
}

function reasonOf({ status, error, rows: { total, done, failed } }: Backfill): string {
  const at = `${count(done + failed)}${total === null ? '' : ` of ${count(Number(total))}`} rows`;
  return error ? problemLines(error) : `The backfill is ${status}, at ${at}.`;
}

function wayOn(backfill: Backfill, { url, commandLine }: BackfillOptions): string {
  if (backfill.status === 'canceled') return 'It leaves no output.';
  if (url !== undefined) return `To go on: millrace backfill resume ${backfill.id}`;
  if (!isWorthKeeping(backfill)) return 'Nothing was written.';
  return `To go on: ${['millrace', ...commandLine].map(quoted).join(' ')}\nTo begin anew: the same with --restart`;
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll('\'', '\'\\\'\'')}'`;
}
