// `millrace backfill list | get | pause | resume | cancel | retry`: the backfills of a running API.
import type { Backfill, BackfillState, BackfillWish } from '@millrace/protocol';
import { Client, problemLines } from '../client.ts';
import { count, duration } from '../follow.ts';
import type { ApiPlace } from './webhooks.ts';

export interface ListOptions extends ApiPlace {
  readonly status?: BackfillState;
  readonly limit: number;
  readonly json?: boolean;
}

/** Prints the newest backfills, a line each. */
export async function listBackfills({ url, key, status, limit, json }: ListOptions): Promise<void> {
  const listed = await new Client(url, key).backfills({ ...(status && { status }), limit });
  if (json) {
    process.stdout.write(`${JSON.stringify(listed, null, 2)}\n`);
    return;
  }
  for (const backfill of listed) process.stdout.write(`${lineOf(backfill)}\n`);
  if (listed.length === 0) process.stderr.write('There is no such backfill.\n');
}

export async function getBackfill(id: string, { url, key, json }: ApiPlace & { readonly json?: boolean }): Promise<void> {
  show(await new Client(url, key).backfill(id), json);
}

export async function askBackfill(id: string, wish: BackfillWish, { url, key, json }: ApiPlace & { readonly json?: boolean }): Promise<void> {
  show(await new Client(url, key).askBackfill(id, wish), json);
}

function show(backfill: Backfill, json = false): void {
  process.stdout.write(json ? `${JSON.stringify(backfill, null, 2)}\n` : `${lineOf(backfill)}\n`);
  if (!json && backfill.error) process.stdout.write(`${problemLines(backfill.error)}\n`);
}

function lineOf({ id, created_at: at, status, requested, model, version, rows: { total, done, failed }, rows_per_second: rate, eta_seconds: left, output: { uri } }: Backfill): string {
  const rows = `${count(done + failed)}${total === null ? '' : `/${count(Number(total))}`} rows${failed > 0 ? `, ${count(failed)} failed` : ''}`;
  const pace = rate === null ? [] : [`${count(Math.round(Number(rate)))} rows/s${left === null ? '' : `, ETA ${duration(Number(left))}`}`];
  return [at, id, requested === null ? status : `${status} (to ${requested})`, `${model}@${version}`, rows, ...pace, uri].join('  ');
}
