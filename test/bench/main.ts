// `npm run bench -- <name>`: the benchmarks. Ratios within one run count; absolute rates depend on the machine.
import { parseArgs } from 'node:util';
import { findRedisServer } from '../../apps/cli/bin/redis-server.mjs';
import { online } from './online.ts';

const usage = `Usage: npm run bench -- online [--quick] [--json]

  online   HTTP → Redis → micro-batch → back, against a no-op route, one job per prediction, and bare loops

  --quick  fewer rounds, within 45 s
  --json   print one JSON object as the last line
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false }, json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false }, 'redis-server': { type: 'string' }, wrk: { type: 'string', default: 'wrk' } },
});

if (values.help || positionals[0] !== 'online') {
  process.stdout.write(usage);
  process.exit(values.help ? 0 : 2);
}
const figures = await online({ quick: values.quick, redisServer: values['redis-server'] ?? findRedisServer(), wrk: values.wrk, show: (text) => process.stdout.write(text) });
if (values.json) process.stdout.write(`${JSON.stringify(figures)}\n`);
process.exit(figures.lost === 0 && figures.doubled === 0 ? 0 : 1);
