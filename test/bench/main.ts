// `npm run bench -- <name>`: the benchmarks. Ratios within one run count; absolute rates depend on the machine.
import { parseArgs } from 'node:util';
import { findRedisServer } from '../../apps/cli/bin/redis-server.mjs';
import { backfill } from './backfill.ts';
import { burst } from './burst.ts';
import { memory } from './memory.ts';
import { online } from './online.ts';
import { scaling } from './scaling.ts';
import { webhooks } from './webhooks.ts';

const usage = `Usage: npm run bench -- online|memory|webhooks|scaling|burst|backfill [--quick] [--json]

  online   HTTP → Redis → micro-batch → back, against a no-op route, one job per prediction, and bare loops
  memory   Redis, API and worker with 1,000,000 predictions queued, against 10,000
  webhooks HTTP → Redis → micro-batch → dispatcher → receiver, against a bare loop of the HTTP client; and with dead hosts
  scaling  the scaling policy against a CPU target, list length and fixed fleets, simulated
  burst    a burst at a pool without workers: time to the first claim, against a poll of the autoscaler and the start of a process
  backfill files in, files out: against bare loops and against pandas; beside online traffic; with two workers; memory

  --quick  online, webhooks, backfill: fewer rounds and smaller inputs, within 55 s; memory: 100,000 in place of 1,000,000;
           scaling, burst: one run of each in place of three
  --json   print one JSON object as the last line
  --python backfill: a Python that has pandas and scikit-learn (python3); without them that comparison is skipped
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false }, json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false }, 'redis-server': { type: 'string' }, wrk: { type: 'string', default: 'wrk' }, python: { type: 'string', default: 'python3' } },
});

const [name = ''] = positionals;
const options = { quick: values.quick, redisServer: values['redis-server'] ?? findRedisServer(), wrk: values.wrk, python: values.python, show: (text: string) => process.stdout.write(text) };
const benchmarks = {
  online: () => online(options), memory: () => memory(options), webhooks: () => webhooks(options), scaling: () => scaling(options), burst: () => burst(options),
  backfill: () => backfill(options),
};
if (values.help || !Object.hasOwn(benchmarks, name)) {
  process.stdout.write(usage);
  process.exit(values.help ? 0 : 2);
}
const figures = await benchmarks[name as keyof typeof benchmarks]();
if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
process.exit('lost' in figures && figures.lost + figures.doubled > 0 ? 1 : 0);
