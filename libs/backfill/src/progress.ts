// What the work place knows of a backfill: enough for a new coordinator to go on where the last one was.
import type { Part } from './part.ts';
import type { Plan } from './plan.ts';
import { readTexts, type WorkPlace } from './work-place.ts';

export interface Tally {
  readonly chunks: number;
  /** Rows that have an outcome. */
  readonly rows: number;
  readonly written: number;
  readonly failed: number;
}

export const nothingDone: Tally = { chunks: 0, rows: 0, written: 0, failed: 0 };

export function addPart(tally: Tally, { rows, written }: Pick<Part, 'rows' | 'written'>): Tally {
  return { chunks: tally.chunks + 1, rows: tally.rows + rows, written: tally.written + written, failed: tally.failed + rows - written };
}

/** Whether more rows failed than the job allows; of `totalRows` where all are known, else of those that are done. */
export function hasTooManyErrors({ rows, failed }: Tally, maxErrorRatio: number | undefined, totalRows?: number): boolean {
  return maxErrorRatio !== undefined && failed > maxErrorRatio * (totalRows ?? rows);
}

/** The parts that there are, by chunk. */
export async function readParts(work: WorkPlace): Promise<ReadonlyMap<number, Part>> {
  const names = (await work.list('parts')).filter((name) => /^\d{8}\.json$/.test(name));
  const texts = await readTexts(work, names.map((name) => `parts/${name}`));
  return new Map(texts.filter((text) => text !== undefined).map((text) => JSON.parse(text) as Part).map((part) => [part.chunk, part]));
}

const planName = 'plan.json';

/** Before the first chunk. The first one that is written counts, whoever else comes with another. */
export async function writePlan(work: WorkPlace, plan: Plan): Promise<void> {
  await work.writeFirst(planName, JSON.stringify(plan));
}

/** Undefined where there is no backfill in this place. */
export async function readPlan(work: WorkPlace): Promise<Plan | undefined> {
  const text = await work.readText(planName);
  return text === undefined ? undefined : JSON.parse(text) as Plan;
}
