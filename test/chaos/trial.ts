// One fault, from a fresh stage to the verdict.
import type { ServiceLog } from '@millrace/process';
import { parsePredictionId } from '@millrace/protocol';
import { randomOf } from '../integration/random.ts';
import { until } from '../integration/until.ts';
import type { Cases } from './cases.ts';
import { check, listed, type Verdict } from './check.ts';
import { checkDepth } from './check-depth.ts';
import { checkTold } from './check-told.ts';
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
  /** Rows that are counted as accepted and not settled when everything is settled. */
  readonly depthDrift: number;
  /** Webhooks that had to arrive, those that did not, and those that came again; undefined where nobody is told. */
  readonly told: { readonly expected: number; readonly untold: number; readonly again: number } | undefined;
  readonly recoverySeconds: number | undefined;
  /** What must not be; none where all is well. */
  readonly violations: readonly string[];
}

/** Load without a fault, before and after it. */
const calmSeconds = (long: boolean) => (long ? 3 : 1);
/** Generous: the times are reported, and only a system that does not come back fails. */
const recoveryLimitSeconds = 60;

export async function trial(fault: Fault, { seed, long, cases, redisServer, models, onLog }: TrialOptions): Promise<Trial> {
  const stage = await Stage.start({ redisServer, models, proxied: fault.proxied ?? false, workers: long ? 3 : 2, told: long || (fault.told ?? false), bulk: fault.bulk ?? false, clocksOffMs: fault.clocksOffMs ?? [], onLog });
  try {
    const client = new Client(stage.url, stage.audience?.url);
    const load = new Load(client, cases, randomOf(seed), fault.perSecond);
    await seconds(calmSeconds(long));
    const { moments, failures } = await struck(fault, { stage, client, long, seed, cases });
    await seconds(calmSeconds(long));
    await load.stop();
    const verdict = await check(client, fault.takesWorkers ?? false);
    const depth = await checkDepth(stage.redis.admin);
    const told = stage.audience && await checkTold(client, stage.audience);

    const recoveries = moments.map((moment) => (fault.recovery === 'rerun' ? rerunAfter(moment, client, stage.history) : client.servedAfter(moment) ?? Infinity) - moment);
    const recoveryMs = fault.recovery === 'told' ? told?.longestMs : recoveries.length > 0 ? Math.max(...recoveries) : undefined;
    const { count, unexplained } = stage.history.doubles();
    const crashes = stage.history.ends - (fault.endsProcesses ? moments.length : 0);
    return {
      fault: fault.name, title: fault.title,
      accepted: verdict.accepted, refused: client.refused, unanswered: load.unanswered, canceled: verdict.canceled,
      lost: verdict.lost.length, duplicates: verdict.duplicates.length, doubleExecutions: count, crashed: verdict.crashed, depthDrift: depth.drift,
      told: told && { expected: told.expected, untold: told.untold.length, again: told.toldAgain },
      recoverySeconds: recoveryMs && recoveryMs / 1000,
      violations: [...failures, ...violationsOf(verdict, unexplained), ...(depth.drift > 0 ? [`the depth is not 0 at rest: ${JSON.stringify(depth)}`] : []), ...(told ? [...listed('not told', told.untold), ...told.wrong] : []), ...(crashes > 0 ? [`${crashes} processes ended by themselves`] : [])],
    };
  } finally {
    await stage.stop();
  }
}

/** The moments from which recovery counts, once the system has recovered. */
async function struck(fault: Fault, { stage, client, long, seed, cases }: { stage: Stage; client: Client; long: boolean; seed: number; cases: Cases }): Promise<{ moments: number[]; failures: string[] }> {
  const moments: number[] = [];
  try {
    moments.push(...await fault.strike(stage, { long, random: randomOf(seed + 1), cases }));
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
  return [
    ...listed('lost', lost),
    ...listed('with two results', duplicates),
    ...listed('with a wrong end', wrong),
    ...listed('run twice without a reason', unexplained),
    ...(accepted === 0 ? ['nothing was accepted'] : []),
  ];
}
