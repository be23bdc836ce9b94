// `npm run test:chaos`: faults under load, and what became of every prediction that was acknowledged.
import { createWriteStream } from 'node:fs';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { ServiceLog } from '@millrace/process';
import { findRedisServer } from '../../apps/cli/bin/redis-server.mjs';
import { randomOf } from '../integration/random.ts';
import { Cases } from './cases.ts';
import { faults } from './faults.ts';
import { mixed } from './mixed.ts';
import { headings, markdownRow, textRow } from './report.ts';
import { type Trial, trial } from './trial.ts';

const usage = `Usage: npm run test:chaos -- [--long | --minutes <number>] [--seed <number>] [--fault <name>]... [--json | --markdown] [--logs <file>]

  --long      every fault, and for longer: about 25 minutes; the short form takes three
  --minutes   faults drawn by the seed for so long, then rest, then all checks
  --seed      of the load and of the faults' choices; 1 without it
  --fault     only this one, also one of the long form
  --json      one JSON object a fault
  --markdown  the table of docs/06-chaos.md
  --logs      writes there what the processes log

Faults: ${faults.map(({ name }) => name).join(', ')}
`;

const { values } = parseArgs({
  options: {
    long: { type: 'boolean', default: false }, minutes: { type: 'string' }, seed: { type: 'string', default: '1' }, fault: { type: 'string', multiple: true, default: [] },
    json: { type: 'boolean', default: false }, markdown: { type: 'boolean', default: false }, logs: { type: 'string' }, help: { type: 'boolean', default: false },
  },
});
const { fault: wanted } = values;
const [seed, minutes] = [Number(values.seed), values.minutes === undefined ? undefined : Number(values.minutes)];
const long = values.long || minutes !== undefined;
const chosen = minutes !== undefined ? [mixed(minutes)] : wanted.length > 0 ? faults.filter(({ name }) => wanted.includes(name)) : faults.filter(({ longOnly }) => long || !longOnly);
if (values.help || !Number.isInteger(seed) || minutes !== undefined && !(minutes > 0) || wanted.some((name) => !faults.some((fault) => fault.name === name))) {
  process.stdout.write(usage);
  process.exit(values.help ? 0 : 2);
}
const redisServer = findRedisServer();
if (!redisServer) throw new Error('there is no redis-server here: run `npm run setup`');

const repository = fileURLToPath(new URL('../..', import.meta.url));
const show = (text: string) => process.stdout.write(`${text}\n`);
const logs = values.logs === undefined ? undefined : createWriteStream(values.logs);
const onLog: ServiceLog = (service, fields) => { logs?.write(`${JSON.stringify({ ...fields, service })}\n`); };
const models = await mkdtemp(path.join(tmpdir(), 'millrace-models-'));
try {
  for (const name of ['iris', 'digits', 'digits-deep']) await cp(path.join(repository, 'deploy/models', name), path.join(models, name), { recursive: true });
  await cp(path.join(repository, 'test/fixtures/models/dynamic-width'), path.join(models, 'dynamic-width'), { recursive: true });
  const cases = await Cases.compute(models, path.join(repository, 'deploy/data/digits-test.csv'), randomOf(seed));

  const rowOf = values.json ? (one: Trial) => JSON.stringify(one) : values.markdown ? markdownRow : textRow;
  if (!values.json) show(headings(values.markdown));
  let failed = 0;
  for (const fault of chosen) {
    const one = await trial(fault, { seed, long, cases, redisServer, models, onLog });
    show(rowOf(one));
    for (const violation of one.violations) process.stderr.write(`${fault.name}: ${violation}\n`);
    if (one.violations.length > 0) failed++;
  }
  if (!values.json && !values.markdown) show(failed === 0 ? `\nAll ${chosen.length} faults survived, seed ${seed}` : `\n${failed} of ${chosen.length} faults did harm, seed ${seed}`);
  process.exitCode = failed === 0 ? 0 : 1;
} finally {
  await rm(models, { recursive: true, force: true });
}
