// From no worker to many: how long a burst waits for the first claim, beside what it must wait for, a poll of the autoscaler at
// most and the start of a process. Real processes with the autoscaler's own settings, but for the way back to zero.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { Client } from '../../apps/cli/src/client.ts';
import { FleetLog } from '../../apps/cli/src/embedded/fleet-log.ts';
import { startSystem } from '../../apps/cli/src/embedded/system.ts';
import { percentile, round } from './figures.ts';

export interface BurstFigures {
  readonly poll_ms: number;
  /** From the acceptance of the first prediction to the order of the first worker. */
  readonly order_ms: number;
  /** From there to its readiness. */
  readonly process_start_ms: number;
  /** From that acceptance to the run of the first rows. */
  readonly first_claim_ms: number;
  readonly workers: number;
  readonly lost: number;
  readonly doubled: number;
}

export interface BurstOptions {
  readonly quick: boolean;
  readonly redisServer: string | undefined;
  readonly show: (text: string) => void;
}

type Round = Omit<BurstFigures, 'poll_ms'>;

const models = fileURLToPath(new URL('../../deploy/models', import.meta.url));
const pollSeconds = 1;
/** Of 32 rows each: together they take one core about a third of a minute. */
const predictions = 1000;
const part = 20;
const rows = 32;
const patienceSeconds = 120;
const image = Array.from({ length: 64 }, (_, pixel) => pixel % 17);
const requests = Array.from({ length: part }, () => ({ model: 'digits-deep', inputs: Array.from({ length: rows }, () => image) }));

export async function burst({ quick, redisServer, show }: BurstOptions): Promise<BurstFigures> {
  const fleet = new FleetLog();
  const env = { MILLRACE_POLL_SECONDS: String(pollSeconds), MILLRACE_IDLE_SECONDS: '2' };
  const system = await startSystem({ redisServer, models, port: 0, workers: { least: 0, most: availableParallelism() }, env, onLog: fleet.hear });
  try {
    show(`A burst of ${predictions} predictions of ${rows} rows at a pool without workers, Node ${process.version}\n`);
    const done: Round[] = [];
    for (let number = 1; number <= (quick ? 1 : 3); number++) {
      if (!await fleet.until(({ wanted, ready }) => wanted === 0 && ready.size === 0, patienceSeconds)) throw new Error('the fleet did not go to zero');
      const one = await oneBurst(new Client(system.url), fleet);
      show(`  round ${number}: first claim after ${one.first_claim_ms} ms, ordered after ${one.order_ms} ms, process start ${one.process_start_ms} ms, ${one.workers} workers\n`);
      done.push(one);
    }
    const figures = figuresOf(done);
    show(`\n  first claim, ms (median)                     ${figures.first_claim_ms}\n  poll ${figures.poll_ms} ms + process start ${figures.process_start_ms} ms        ${figures.poll_ms + figures.process_start_ms}\n`);
    return figures;
  } finally {
    await system.stop();
  }
}

async function oneBurst(client: Client, fleet: FleetLog): Promise<Round> {
  const at: { wanted?: number; ready?: number } = {};
  let workers = 0;
  fleet.onEvent = ({ kind }) => {
    if (kind === 'wanted') at.wanted ??= Date.now();
    if (kind === 'ready') at.ready ??= Date.now();
    workers = Math.max(workers, fleet.ready.size);
  };
  // In parts, so that the first ones do not wait for the API to check them all.
  const ends = (await Promise.all(Array.from({ length: predictions / part }, async () => client.ends(await client.predictBatch(requests), patienceSeconds)))).flat();
  const earliest = (name: 'created_at' | 'started_at') => Math.min(...ends.map((end) => Date.parse(String(end[name]))));
  const [acceptedAt, { wanted = NaN, ready = NaN }] = [earliest('created_at'), at];
  return {
    order_ms: wanted - acceptedAt,
    process_start_ms: ready - wanted,
    first_claim_ms: earliest('started_at') - acceptedAt,
    workers,
    lost: predictions - ends.filter(({ status }) => status === 'succeeded').length,
    doubled: ends.length - new Set(ends.map(({ id }) => id)).size,
  };
}

function figuresOf(rounds: readonly Round[]): BurstFigures {
  const median = (name: keyof Round) => round(percentile(rounds.map((one) => one[name]), 0.5));
  const sum = (name: 'lost' | 'doubled') => rounds.reduce((all, one) => all + one[name], 0);
  return {
    poll_ms: 1000 * pollSeconds, order_ms: median('order_ms'), process_start_ms: median('process_start_ms'), first_claim_ms: median('first_claim_ms'),
    workers: median('workers'), lost: sum('lost'), doubled: sum('doubled'),
  };
}
