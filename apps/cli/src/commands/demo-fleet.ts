// The demo's third part: load comes, the fleet grows, one of its workers is killed, nothing is lost, and the fleet shrinks again.
import type { Client } from '../client.ts';
import type { FleetEvent, FleetLog } from '../embedded/fleet-log.ts';
import type { WorkerRange } from '../embedded/system.ts';

export const demoFleet: WorkerRange = { least: 1, most: 3 };
/** In production a fleet waits for minutes before it shrinks (docs/08-scaling.md). */
export const demoFleetSettings = { MILLRACE_POLL_SECONDS: '0.5', MILLRACE_TARGET_SECONDS: '1', MILLRACE_START_SECONDS: '2', MILLRACE_SCALE_IN_DELAY_SECONDS: '3', MILLRACE_IDLE_SECONDS: '3' };

export interface DemoDigit {
  readonly pixels: readonly number[];
  readonly label: string;
}

/** With `rows` digits each it takes one core about a quarter of a minute. */
const predictions = 800;
const rows = 32;
const patienceSeconds = 60;

const said: Readonly<Record<FleetEvent['kind'], (text: string) => string>> = {
  wanted: (text) => `workers wanted: ${text}`,
  ready: (worker) => `${worker} is there`,
  died: (worker) => `${worker} is dead, and is started again`,
  left: (worker) => `${worker} has gone`,
};

/** True where the fleet grew, every prediction succeeded although a worker was killed, and the fleet has shrunk. */
export async function showFleet(client: Client, digits: readonly DemoDigit[], fleet: FleetLog, out: NodeJS.WriteStream): Promise<boolean> {
  if (!await fleet.until(({ wanted, ready }) => wanted === demoFleet.least && ready.size === demoFleet.least, patienceSeconds)) return false;
  out.write(`Now ${predictions} predictions of ${rows} digits each by a heavy model, for ${demoFleet.least} to ${demoFleet.most} workers:\n\n`);
  const startedAt = performance.now();
  const tell = (text: string) => out.write(`  ${((performance.now() - startedAt) / 1000).toFixed(1).padStart(5)} s  ${text}\n`);
  fleet.onEvent = ({ kind, text }) => tell(said[kind](text));
  const labels = Array.from({ length: predictions }, (_, place) => Array.from({ length: rows }, (_, row) => digits[(place * rows + row) % digits.length] as DemoDigit));
  const batch = await client.predictBatch(labels.map((some) => ({ model: 'digits-deep', inputs: some.map(({ pixels }) => [...pixels]) })));
  tell(`${batch.accepted} predictions are queued`);

  const grew = await fleet.until(({ ready }) => ready.size > demoFleet.least, patienceSeconds);
  const [[victim, pid] = ['', 0]] = [...fleet.ready].toReversed();
  if (pid !== 0) process.kill(pid, 'SIGKILL');
  tell(`kill -9 of ${victim}`);

  const ends = await client.ends(batch, patienceSeconds);
  const succeeded = ends.filter(({ status }) => status === 'succeeded').length;
  const right = ends.reduce((sum, { labels: answers }, place) => sum + (labels[place] as DemoDigit[]).filter(({ label }, row) => answers?.[row] === label).length, 0);
  tell(`${succeeded} of ${predictions} have succeeded, ${predictions - succeeded} are lost; ${(100 * right / (predictions * rows)).toFixed(1)} % of the digits are right`);
  const shrank = await fleet.until(({ wanted, ready }) => wanted === demoFleet.least && ready.size === demoFleet.least, patienceSeconds);
  fleet.onEvent = () => {};
  out.write('\n');
  return grew && succeeded === predictions && shrank;
}
