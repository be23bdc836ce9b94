// One fault, from a fresh stage to the verdict.
import { parsePredictionId } from '@millrace/protocol';
import type { ServiceLog } from '../../apps/cli/src/embedded/service.ts';
import { randomOf } from '../integration/random.ts';
import { until } from '../integration/until.ts';
import type { Cases } from './cases.ts';
import { check, type Verdict } from './check.ts';
import { Client } from './client.ts';
import type { Fault } from './faults.ts';
import type { History } from './history.ts';
import { Load } from './load.ts';
import { seconds, Stage } from './stage.ts';

export interface TrialOptions {
  readonly seed: number;
  readonly long: boolean;
  readonly cases: Cases;
  readonly redisServer: string;
  readonly models: string;
  readonly onLog: ServiceLog;
}

export interface Trial {
  readonly fault: string;
  readonly title: string;
  readonly accepted: number;
  readonly refused: number;
  readonly unanswered: number;
  readonly canceled: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly doubleExecutions: number;
  readonly crashed: number;
  readonly recoverySeconds: number | undefined;
  /** What must not be; none where all is well. */
  readonly violations: readonly string[];
}

/** Load without a fault, before and after it. */
const calmSeconds = (long: boolean) => (long ? 3 : 1);
/** Generous: the times are reported, and only a system that does not come back fails. */
const recoveryLimitSeconds = 60;

export async function trial(fault: Fault, { seed, long, cases, redisServer, models, onLog }: TrialOptions): Promise<Trial> {
  const stage = await Stage.start({ redisServer, models, proxied: fault.proxied ?? false, workers: long ? 3 : 2, clocksOffMs: fault.clocksOffMs ?? [], onLog });
  try {
    const client = new Client(stage.url);
    const load = new Load(client, cases, randomOf(seed));
    await seconds(calmSeconds(long));
    const { moments, failures } = await struck(fault, { stage, client, long, seed });
    await seconds(calmSeconds(long));
    await load.stop();
    const verdict = await check(client, fault.takesWorkers ?? false);

    const recoveries = moments.map((moment) => (fault.recovery === 'rerun' ? rerunAfter(moment, client, stage.history) : client.servedAfter(moment) ?? Infinity) - moment);
    const { count, unexplained } = stage.history.doubles();
    const crashes = stage.history.ends - (fault.endsProcesses ? moments.length : 0);
    return {
      fault: fault.name, title: fault.title,
      accepted: verdict.accepted, refused: client.refused, unanswered: load.unanswered, canceled: verdict.canceled,
      lost: verdict.lost.length, duplicates: verdict.duplicates.length, doubleExecutions: count, crashed: verdict.crashed,
      recoverySeconds: moments.length > 0 ? Math.max(...recoveries) / 1000 : undefined,
      violations: [...failures, ...violationsOf(verdict, unexplained), ...(crashes > 0 ? [`${crashes} processes ended by themselves`] : [])],
    };
  } finally {
    await stage.stop();
  }
}

/** The moments from which recovery counts, once the system has recovered. */
async function struck(fault: Fault, { stage, client, long, seed }: { stage: Stage; client: Client; long: boolean; seed: number }): Promise<{ moments: number[]; failures: string[] }> {
  const moments: number[] = [];
  try {
    moments.push(...await fault.strike(stage, { long, random: randomOf(seed + 1) }));
    if (fault.recovery === 'served') await until(() => moments.every((moment) => client.servedAfter(moment) !== undefined), 'recovery', recoveryLimitSeconds);
    return { moments, failures: [] };
  } catch (error) {
    return { moments, failures: [(error as Error).message] };
  }
}

/** When everything that was queued before the moment, and ran after it, had started to. */
function rerunAfter(moment: number, client: Client, history: History): number {
  const queuedBefore = [...client.accepted.keys()].filter((id) => (parsePredictionId(id)?.bundledAt ?? 0) < performance.timeOrigin + moment);
  return Math.max(moment, ...queuedBefore.map((id) => history.startsOf(id).find(({ at }) => at > moment)?.at ?? moment));
}

function violationsOf({ accepted, lost, duplicates, wrong }: Verdict, unexplained: readonly string[]): string[] {
  const told = (what: string, ids: readonly string[]) => (ids.length > 0 ? [`${ids.length} ${what}: ${ids.slice(0, 3).join(', ')}`] : []);
  return [
    ...told('lost', lost),
    ...told('with two results', duplicates),
    ...told('with a wrong end', wrong),
    ...told('run twice without a reason', unexplained),
    ...(accepted === 0 ? ['nothing was accepted'] : []),
  ];
}
