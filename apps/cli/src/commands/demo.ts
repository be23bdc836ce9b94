// `millrace demo`: starts everything, classifies scikit-learn's digits test split over HTTP, shows how it went, how a result
// comes by webhook and how the fleet follows the load, stops.
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { ServiceLog } from '@millrace/process';
import type { Prediction } from '@millrace/protocol';
import { SingleBar } from 'cli-progress';
import { Client } from '../client.ts';
import { FleetLog } from '../embedded/fleet-log.ts';
import { loopbackNetworks, startSystem } from '../embedded/system.ts';
import { warnings } from '../logs.ts';
import { type DemoDigit, demoFleet, demoFleetSettings, showFleet } from './demo-fleet.ts';
import { demoRetrySeconds, demoWebhook } from './demo-webhook.ts';

interface Answer {
  readonly digit: DemoDigit;
  readonly prediction: Prediction;
  readonly latencyMs: number;
}

const concurrency = 64;
const startSeconds = 30;
const onPurpose = ['Redis may lose what is accepted', 'ended unexpectedly, starting it again'];
const dataFile = fileURLToPath(new URL('../../../../deploy/data/digits-test.csv', import.meta.url));

/** True where every prediction came back, the webhook came, and the fleet did as promised. */
export async function demo(options: { redisServer: string | undefined; redisUrl: string | undefined; models: string; key?: string }): Promise<boolean> {
  const out = process.stdout;
  const digits = await readDigits();
  out.write('Starting Redis, the API, the dispatcher and the autoscaler with a worker ...\n');
  const env = { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: loopbackNetworks, MILLRACE_WEBHOOK_RETRY_SECONDS: demoRetrySeconds, ...demoFleetSettings };
  const fleet = new FleetLog();
  const system = await startSystem({ ...options, port: 0, workers: demoFleet, env, onLog: onLog(fleet) });
  const client = new Client(system.url, options.key);
  try {
    await fleet.until(({ ready }) => ready.size > 0, startSeconds);
    out.write(`Up at ${system.url}. Classifying the ${digits.length} handwritten digits of scikit-learn's test split, one prediction each, ${concurrency} at a time:\n\n`);
    const bar = new SingleBar({ format: '  {bar} {value}/{total}', barCompleteChar: '█', barIncompleteChar: '░', barsize: 40, stream: process.stdout, noTTYOutput: true, notTTYSchedule: 60_000 });
    bar.start(digits.length, 0);
    const startedAt = performance.now();
    const answers = await classify(digits, client, () => bar.increment());
    const seconds = (performance.now() - startedAt) / 1000;
    bar.stop();
    out.write(`\n${report(answers, seconds)}\n`);
    const [first] = digits as [DemoDigit, ...DemoDigit[]];
    const told = await demoWebhook(client, { model: 'digits', inputs: [[...first.pixels]] }, out);
    const followed = await showFleet(client, digits, fleet, out);
    return told && followed && answers.length === digits.length;
  } finally {
    await system.stop();
    out.write('Stopped.\n');
  }
}

async function readDigits(): Promise<DemoDigit[]> {
  const [, ...lines] = (await readFile(dataFile, 'utf8')).trim().split('\n');
  return lines.map((line) => {
    const cells = line.split(',');
    return { pixels: cells.slice(0, -1).map(Number), label: cells.at(-1)?.trim() ?? '' };
  });
}

/** Sends every digit, so many at a time, in order. */
async function classify(digits: readonly DemoDigit[], client: Client, onAnswer: () => void): Promise<Answer[]> {
  const answers: Answer[] = [];
  const rest = digits.values();
  const sender = async () => {
    for (const digit of rest) {
      const startedAt = performance.now();
      const prediction = await client.predict({ model: 'digits', inputs: [[...digit.pixels]] }, 30);
      answers.push({ digit, prediction, latencyMs: performance.now() - startedAt });
      onAnswer();
    }
  };
  await Promise.all(Array.from({ length: concurrency }, sender));
  return answers;
}

function report(answers: readonly Answer[], seconds: number): string {
  const right = answers.filter(({ digit, prediction }) => prediction.labels?.[0] === digit.label).length;
  const wrong = answers.filter(({ digit, prediction }) => prediction.labels?.[0] !== digit.label);
  const latencies = answers.map(({ latencyMs }) => latencyMs).toSorted((a, b) => a - b);
  const percentile = (share: number) => (latencies[Math.ceil(share * latencies.length) - 1] ?? 0).toFixed(1);
  // Every micro-batch is reported once by each of its rows: the mean over batches is rows ÷ Σ 1/size.
  const batches = answers.reduce((sum, { prediction }) => sum + 1 / (prediction.metrics?.batch_rows ?? 1), 0);
  return [
    `  accuracy       ${(100 * right / answers.length).toFixed(1)} %  (${right} of ${answers.length})`,
    `  throughput     ${Math.round(answers.length / seconds)} predictions/s over HTTP`,
    `  latency        p50 ${percentile(0.5)} ms   p95 ${percentile(0.95)} ms   p99 ${percentile(0.99)} ms`,
    `  micro-batches  ${(answers.length / batches).toFixed(1)} rows each, on average`,
    ...(wrong[0] ? ['', `  One that it got wrong, a ${wrong[0].digit.label} taken for a ${wrong[0].prediction.labels?.[0] ?? '?'}:`, drawing(wrong[0].digit)] : []),
    '',
  ].join('\n');
}

/** The 8 × 8 image, darker where the ink is. */
function drawing({ pixels }: DemoDigit): string {
  const shades = ' ░▒▓█';
  const shade = (ink: number) => (shades[Math.round(ink / 4)] ?? ' ').repeat(2);
  return Array.from({ length: 8 }, (_, row) => `    ${pixels.slice(8 * row, 8 * row + 8).map(shade).join('')}`).join('\n');
}

/** Its Redis keeps nothing on purpose, and a worker dies on purpose: of that is not warned. */
function onLog(fleet: FleetLog): ServiceLog {
  const log = warnings();
  return (service, fields) => {
    fleet.hear(service, fields);
    if (!onPurpose.includes(String(fields['msg']))) log(service, fields);
  };
}
