// Follows a backfill to its end, with a progress bar on standard error.
import { setTimeout as delay } from 'node:timers/promises';
import type { Backfill } from '@millrace/protocol';
import { SingleBar } from 'cli-progress';
import { type Client, ClientError } from './client.ts';

const pollMs = 500;
/** An API that is restarted is back by then. */
const patienceMs = 30_000;
const barWidth = 30;

/** Resolves when it is completed, failed, canceled or paused. Where `interrupted` aborts, it asks for a pause first. */
export async function follow(client: Client, id: string, interrupted: AbortSignal): Promise<Backfill> {
  const progress = new Progress();
  try {
    let asked = false;
    for (;;) {
      const backfill = await patiently(() => client.backfill(id));
      progress.show(backfill);
      if (hasStopped(backfill)) return backfill;
      if (interrupted.aborted && !asked) {
        asked = true;
        process.stderr.write('\nPausing: the rows that run are finished first. Ctrl-C again ends at once.\n');
        await ask(client, id, 'pause');
      }
      await delay(pollMs, undefined, asked ? {} : { signal: interrupted }).catch(() => { /* asked to pause */ });
    }
  } finally {
    progress.end();
  }
}

function hasStopped({ status, requested }: Backfill): boolean {
  return status === 'completed' || status === 'canceled' || ((status === 'failed' || status === 'paused') && requested === null);
}

/** Asks for it, unless it has come to that, or to its end, meanwhile. */
export async function ask(client: Client, id: string, wish: 'pause' | 'resume'): Promise<void> {
  try {
    await client.askBackfill(id, wish);
  } catch (error) {
    if (!(error instanceof ClientError && error.status === 409)) throw error;
  }
}

async function patiently<Value>(read: () => Promise<Value>): Promise<Value> {
  const until = performance.now() + patienceMs;
  for (;;) {
    try {
      return await read();
    } catch (error) {
      const passing = error instanceof ClientError && (error.status === 0 || error.status >= 500);
      if (!passing || performance.now() > until) throw error;
      await delay(pollMs);
    }
  }
}

class Progress {
  readonly #bar = new SingleBar({
    format: (_options, _params, { backfill }: { backfill: Backfill }) => lineOf(backfill),
    stream: process.stderr, noTTYOutput: true, notTTYSchedule: 10_000, fps: 2,
  });
  #started = false;

  show(backfill: Backfill): void {
    const { rows: { total, done, failed } } = backfill;
    const value = done + failed;
    if (!this.#started) this.#bar.start(total as number | null ?? 0, value, { backfill });
    this.#started = true;
    if (total !== null) this.#bar.setTotal(total as number);
    this.#bar.update(value, { backfill });
  }

  end(): void {
    if (this.#started) this.#bar.stop();
  }
}

const doing: Partial<Record<Backfill['status'], string>> = { validating: 'checking the input', finalizing: 'writing the output' };

function lineOf({ status, rows: { total, done, failed }, rows_per_second: rate, eta_seconds: left }: Backfill): string {
  const share = total === null ? 0 : (done + failed) / Number(total);
  const bar = '█'.repeat(Math.round(share * barWidth)).padEnd(barWidth, '░');
  return [
    `  ${bar}`,
    total === null ? '' : `${Math.floor(share * 100)} %`,
    `${count(done + failed)}${total === null ? '' : `/${count(Number(total))}`} rows`,
    failed > 0 ? `${count(failed)} failed` : '',
    doing[status] ?? (rate === null ? '' : `${count(Math.round(Number(rate)))} rows/s`),
    left === null || doing[status] !== undefined ? '' : `ETA ${duration(Number(left))}`,
  ].filter((part) => part !== '').join('  ');
}

/** `12,345`. */
export function count(rows: number): string {
  return rows.toLocaleString('en');
}

/** `4 s`, `3 min 20 s`, `2 h 5 min`. */
export function duration(seconds: number): string {
  if (seconds < 60) return `${Number.isInteger(seconds) ? seconds : seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(seconds % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}
