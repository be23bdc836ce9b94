// The checker: what became of every prediction that was acknowledged.
import { setTimeout as delay } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import type { Prediction } from '@millrace/protocol';
import { difference } from '../integration/direct.ts';
import type { Accepted, Client } from './client.ts';

export interface Verdict {
  readonly accepted: number;
  /** Without a result when all should be settled, or denied by the API. */
  readonly lost: string[];
  /** Shown with two results that differ. */
  readonly duplicates: string[];
  /** With another end or other outputs than must be. */
  readonly wrong: string[];
  readonly canceled: number;
  /** Failed because workers died with them, time and again. */
  readonly crashed: number;
}

const settleSeconds = 120;
const readers = 32;
/** On a slow machine too. */
const readsPerSecond = 250;
const tolerance = 1e-5;

/** Waits until everything is settled, reads each result twice, and judges. */
export async function check(client: Client, mayCrash: boolean): Promise<Verdict> {
  const all = [...client.accepted.values()];
  const patienceMs = 1000 * (settleSeconds + all.length / readsPerSecond);
  const first = await readAll(client, all, performance.now() + patienceMs);
  const second = await readAll(client, all, performance.now() + patienceMs);
  const judged = all.map((one) => ({ one, end: one.seen.at(-1), texts: [first.get(one.id), second.get(one.id)] }));
  const ids = (bad: (judgement: (typeof judged)[number]) => boolean) => judged.filter(bad).map(({ one }) => one.id);
  return {
    accepted: all.length,
    lost: ids(({ one, texts }) => one.denied || texts.includes(undefined)),
    duplicates: [...client.repeated, ...ids(({ one, end, texts: [a, b] }) => a !== b || one.seen.some((shown) => !isDeepStrictEqual(shown, end)))],
    wrong: ids(({ one, end }) => end !== undefined && !isRight(one, end, mayCrash)),
    canceled: judged.filter(({ end }) => end?.status === 'canceled').length,
    crashed: judged.filter(({ end }) => end && isCrashed(end)).length,
  };
}

/** The results as JSON text, by id; those that have none at the deadline are left out. */
async function readAll(client: Client, all: readonly Accepted[], deadline: number): Promise<ReadonlyMap<string, string>> {
  const texts = new Map<string, string>();
  const rest = all.values();
  await Promise.all(Array.from({ length: readers }, async () => {
    for (const one of rest) {
      for (let text: string | undefined; text === undefined && performance.now() < deadline && !one.denied;) {
        text = await client.read(one, 10).catch(() => undefined);
        if (text === undefined) await delay(100);
        else texts.set(one.id, text);
      }
    }
  }));
  return texts;
}

function isRight({ asked, cancel }: Accepted, end: Prediction, mayCrash: boolean): boolean {
  if (end.status === 'canceled') return cancel !== 'not asked' && end.outputs === null;
  if (cancel === 'confirmed') return false;
  if (isCrashed(end)) return mayCrash;
  return end.status === 'succeeded' && offBy(end, asked.expected) < tolerance;
}

function offBy({ outputs }: Prediction, expected: Readonly<Record<string, unknown>>): number {
  const shown = (outputs ?? {}) as Readonly<Record<string, unknown>>;
  return Object.keys(expected).reduce((largest, name) => Math.max(largest, difference(shown[name], expected[name])), 0);
}

function isCrashed({ error }: Prediction): boolean {
  return error?.type === '/problems/worker-crashed';
}

/** What is wrong with these, as a violation; none where there are none. */
export function listed(what: string, which: readonly string[]): string[] {
  return which.length > 0 ? [`${which.length} ${what}: ${which.slice(0, 3).join(', ')}`] : [];
}
