// The scaling policy against what else scales a pool, in simulated time. To compare at equal cost, each rival is tuned, with
// the traffic known beforehand, until its replica-seconds are the policy's (−5 to +10 %), and the best of it is taken.
import { bundlesToClaim } from '@millrace/batching';
import { fixedFleet, hpaOnCpu, kedaOnListLength, policyScaler, type PoolShape, type Scaler, simulate, type Traffic } from '@millrace/scaling/simulation';
import { randomOf } from '../integration/random.ts';
import { round } from './figures.ts';
import { rowSeconds, type Scenario, scenarios } from './scenarios.ts';

export interface ScalerFigures {
  readonly scaler: string;
  readonly missed: number;
  readonly miss_ratio: number;
  readonly replica_seconds: number;
  readonly scale_events_per_hour: number;
  readonly most_replicas: number;
  /** From a backfill's arrival to its last row, the longest; infinite (null in JSON) where it was not done. */
  readonly bulk_seconds: number;
}

export interface ScalingFigures {
  readonly scenarios: Readonly<Record<string, readonly ScalerFigures[]>>;
  /** The worst of step and spike, at equal replica-seconds. */
  readonly slo_miss_ratio_vs_keda: number;
  /** The same against one whose HPA may add any number of pods at once. */
  readonly slo_miss_ratio_vs_keda_unlimited: number;
  readonly scale_events_per_hour_steady: number;
}

export interface ScalingOptions {
  readonly quick: boolean;
  readonly show: (text: string) => void;
}

const threadsPerReplica = 2;
const maxRows = 2;
const targetSeconds = 5;
const maxReplicas = 40;
const bulkDrainSeconds = 900;
const claimRows = bundlesToClaim({ maxRows, threads: threadsPerReplica, rowsPerBundle: 1, secondsPerRow: rowSeconds });

export function scaling({ quick, show }: ScalingOptions): ScalingFigures {
  const seeds = quick ? [1] : [1, 2, 3];
  show(`Scaling, simulated: ${threadsPerReplica} threads a replica, ${rowSeconds} s a row, SLO ${targetSeconds} s, ${seeds.length} runs of each\n`);
  const all = Object.fromEntries(scenarios.map((scenario): [string, ScalerFigures[]] => {
    const figures = compare(new Stage(scenario, seeds), quick);
    show(table(scenario, figures));
    return [scenario.name, figures];
  }));
  const missesOf = (name: string, scaler: string) => all[name]?.find((figures) => figures.scaler === scaler)?.missed ?? NaN;
  const ratioTo = (rival: string) => round(Math.max(...['step', 'spike'].map((name) => missesOf(name, 'policy') / missesOf(name, rival))));
  const figures: ScalingFigures = {
    scenarios: all,
    slo_miss_ratio_vs_keda: ratioTo('KEDA, list length'),
    slo_miss_ratio_vs_keda_unlimited: ratioTo('KEDA, unlimited out'),
    scale_events_per_hour_steady: all['steady']?.[0]?.scale_events_per_hour ?? NaN,
  };
  show(`\n  SLO misses, policy ÷ KEDA on list length, the worst of step and spike: ${figures.slo_miss_ratio_vs_keda} (unlimited out: ${figures.slo_miss_ratio_vs_keda_unlimited})\n  scale events per hour, steady: ${figures.scale_events_per_hour_steady}\n`);
  return figures;
}

interface Setting {
  readonly name: string;
  /** A scaler each time: it has a state. */
  readonly scaler: () => Scaler;
}

/** One scenario's traffic, a few times: what a scaler makes of it, all times together. */
class Stage {
  readonly scenario: Scenario;
  readonly #runs: readonly { readonly traffic: Traffic; readonly phase: number }[];
  readonly seconds: number;

  constructor(scenario: Scenario, seeds: readonly number[]) {
    this.scenario = scenario;
    this.#runs = seeds.map((seed) => {
      const random = randomOf(seed);
      return { traffic: scenario.traffic(random), phase: random() };
    });
    this.seconds = this.#runs.reduce((sum, { traffic }) => sum + traffic.seconds, 0);
  }

  play({ name, scaler }: Setting): ScalerFigures {
    const { startSeconds, replicas } = this.scenario;
    const pool: PoolShape = { threadsPerReplica, maxRows, batchSeconds: rowSeconds / 5, claimRows, startSeconds, replicas, maxReplicas, targetSeconds };
    const outcomes = this.#runs.map(({ traffic, phase }) => {
      const one = scaler();
      return simulate(traffic, pool, one, phase * one.everySeconds);
    });
    const sum = (figure: 'rows' | 'missed' | 'replicaSeconds' | 'scaleEvents') => outcomes.reduce((total, outcome) => total + outcome[figure], 0);
    return {
      scaler: name,
      missed: sum('missed'),
      miss_ratio: round(sum('missed') / sum('rows')),
      replica_seconds: Math.round(sum('replicaSeconds')),
      scale_events_per_hour: round((sum('scaleEvents') * 3600) / this.seconds),
      most_replicas: Math.max(...outcomes.map(({ mostReplicas }) => mostReplicas)),
      bulk_seconds: round(Math.max(...outcomes.map(({ bulkSeconds }) => bulkSeconds))),
    };
  }
}

function compare(stage: Stage, quick: boolean): ScalerFigures[] {
  const { startSeconds, replicas, minReplicas } = stage.scenario;
  const limits = { minReplicas, maxReplicas, targetSeconds, bulkDrainSeconds, utilisation: 0.8, scaleInDelaySeconds: 300, idleSeconds: 300, staleSeconds: 30, startSeconds };
  const policy = stage.play({ name: 'policy', scaler: () => policyScaler(limits, { replicas, threadsPerReplica, everySeconds: 1 }) });
  const fleet = policy.replica_seconds / stage.seconds;
  // KEDA's operator knows what a row costs: so many bulk rows does one replica in the time that bulk has.
  const bulkListLength = (bulkDrainSeconds * threadsPerReplica) / rowSeconds;
  const keda = (name: string, { pollingSeconds, limitsOut }: { pollingSeconds: 5 | 30; limitsOut: boolean }): Rival => (
    { name, from: 0.1, to: 1000, scaler: (listLength, reserve) => kedaOnListLength({ listLength, bulkListLength, pollingSeconds, minReplicas: reserve, limitsOut }) });
  const tuning = { stage, policy, reserves: reservesOf(minReplicas, fleet, quick), steps: quick ? 6 : 8 };
  return [
    policy,
    tuned({ name: 'HPA, CPU', from: 0.02, to: 1, scaler: (targetShare, reserve) => hpaOnCpu({ targetShare, threadsPerReplica, minReplicas: Math.max(1, reserve) }) }, tuning),
    tuned(keda('KEDA, list length', { pollingSeconds: 5, limitsOut: true }), tuning),
    tuned(keda('KEDA, unlimited out', { pollingSeconds: 5, limitsOut: false }), tuning),
    // How often KEDA polls matters only where a pool goes to zero: from one on it is an HPA that asks.
    ...(minReplicas === 0 ? [tuned(keda('KEDA, polling 30 s', { pollingSeconds: 30, limitsOut: true }), tuning)] : []),
    stage.play({ name: 'fixed fleet', scaler: () => fixedFleet(Math.ceil(fleet)) }),
  ];
}

/** What a rival always keeps: the minimum, or up to the policy's mean fleet. */
function reservesOf(minReplicas: number, fleet: number, quick: boolean): number[] {
  const shares = quick ? [0, 1] : [0, 0.5, 1];
  return [...new Set(shares.map((share) => Math.max(minReplicas, Math.floor(share * fleet))))];
}

interface Rival {
  readonly name: string;
  /** Of its target: the larger, the fewer replicas. */
  readonly from: number;
  readonly to: number;
  readonly scaler: (target: number, reserve: number) => Scaler;
}

interface Tuning {
  readonly stage: Stage;
  readonly policy: ScalerFigures;
  readonly reserves: readonly number[];
  readonly steps: number;
}

/** For each reserve, the target at which it costs as much as the policy; of all that do, near enough, the one with the fewest misses. */
function tuned({ name, from, to, scaler }: Rival, { stage, policy, reserves, steps }: Tuning): ScalerFigures {
  const played = reserves.flatMap((reserve) => {
    let [low, high] = [from, to];
    return Array.from({ length: steps }, () => {
      const target = Math.sqrt(low * high);
      const figures = stage.play({ name, scaler: () => scaler(target, reserve) });
      if (figures.replica_seconds >= policy.replica_seconds) low = target;
      else high = target;
      return figures;
    });
  });
  const costOf = ({ replica_seconds }: ScalerFigures) => replica_seconds / policy.replica_seconds;
  const alike = played.filter((one) => costOf(one) >= 0.95 && costOf(one) <= 1.1);
  const fewestMisses = alike.toSorted((a, b) => a.missed - b.missed);
  const nearest = played.toSorted((a, b) => Math.abs(Math.log(costOf(a))) - Math.abs(Math.log(costOf(b))));
  return (fewestMisses[0] ?? nearest[0]) as ScalerFigures;
}

function table({ name, says, startSeconds }: Scenario, all: readonly ScalerFigures[]): string {
  const heading = `\n  ${name}: ${says}; a replica starts in ${startSeconds} s\n    ${''.padEnd(20)} ${'SLO misses'.padStart(18)} ${'replica-seconds'.padStart(16)} ${'events/h'.padStart(9)} ${'most'.padStart(5)}\n`;
  const row = ({ scaler, missed, miss_ratio, replica_seconds, scale_events_per_hour, most_replicas, bulk_seconds }: ScalerFigures) =>
    `    ${scaler.padEnd(20)} ${String(missed).padStart(8)} ${`${(100 * miss_ratio).toFixed(3)} %`.padStart(9)} ${String(replica_seconds).padStart(16)} ${scale_events_per_hour.toFixed(1).padStart(9)} ${String(most_replicas).padStart(5)}${bulk_seconds > 0 ? `  bulk ${bulk_seconds === Infinity ? 'not done' : `done after ${bulk_seconds.toFixed(0)} s`}` : ''}\n`;
  return heading + all.map(row).join('');
}
