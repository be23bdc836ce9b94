// The command line: `millrace up | predict | models | backfill | keys | webhooks | demo | bench`.
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { onceOrphaned } from '@millrace/process';
import { backfillFormats, backfillStates, backfillWishes, deliveryStates, encodings, outputFormats, type Scope, scopes, tenantPattern, vectorForms } from '@millrace/protocol';
import { Command, InvalidArgumentError, Option } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { ClientError } from './client.ts';
import type { BackfillOptions } from './commands/backfill.ts';
import type { ListOptions } from './commands/backfills.ts';
import { bench } from './commands/bench.ts';
import { demo } from './commands/demo.ts';
import type { KeysPlace, NewKeyOptions } from './commands/keys.ts';
import type { ListenOptions } from './commands/listen.ts';
import { models } from './commands/models.ts';
import { predict, type PredictOptions } from './commands/predict.ts';
import { up, type UpOptions } from './commands/up.ts';
import type { ApiPlace, DeliveriesOptions, RedeliverOptions } from './commands/webhooks.ts';
import type { WorkerRange } from './embedded/system.ts';

/** 0 done, 1 failed, 2 wrong usage (commander's), 3 the API cannot be reached, 130 Ctrl-C stopped what can go on. */
const exitCodes = { done: 0, failed: 1, unreachable: 3, interrupted: 130 } as const;

const env = process.env;
const redis = { redisServer: env['MILLRACE_REDIS_SERVER'], redisUrl: env['REDIS_URL'] };
const bundledModels = fileURLToPath(new URL('../../../deploy/models', import.meta.url));
const urlOption = () => new Option('--url <url>', 'the API').default(env['MILLRACE_URL'] ?? 'http://127.0.0.1:8080');
const keyOption = () => new Option('--key <key>', 'API key, where the API asks for one').env('MILLRACE_API_KEY');
const dataOption = (meaning: string) => new Option('--data <folder>', meaning).default('.millrace/redis');
const modelsOption = () => new Option('--models <folder>', 'model repository: <name>/<version>/model.onnx').default(env['MILLRACE_MODELS'] ?? bundledModels, 'the bundled models');

// Without the launcher nobody could stop it; it ends as on SIGTERM.
onceOrphaned(() => process.kill(process.pid, 'SIGTERM'));
process.channel?.unref();

const program = new Command('millrace')
  .description('Queue-driven inference for ONNX models.')
  .version(manifest.version)
  // What comes after the name of a command is that command's.
  .enablePositionalOptions()
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

program.command('up').description('run everything on this machine: Redis, the API and workers')
  .option('--host <host>', 'address of the API; others than 127.0.0.1 need an API key first', env['MILLRACE_HOST'] ?? '127.0.0.1')
  .option('-p, --port <port>', 'port of the API; 0 picks a free one', wholeNumber, Number(env['MILLRACE_PORT'] ?? 8080))
  .option('-w, --workers <count>', 'worker processes: a number, min..max for as many as there is work for, or auto for 1 to one for each core', workers, 1)
  .addOption(dataOption('where the queue is kept across restarts'))
  .addOption(modelsOption())
  .addOption(keyOption())
  .action((options: UpOptions) => run(async () => {
    await up({ ...options, ...redis, webhookAllowedNetworks: env['MILLRACE_WEBHOOK_ALLOWED_NETWORKS'] });
    return exitCodes.done;
  }));

program.command('predict <model> [inputs]').description('make one prediction; inputs as JSON, from the argument, --file or standard input')
  .option('-f, --file <file>', 'read the inputs from a file')
  .option('--wait <seconds>', 'how long to wait for the result', wholeNumber, 30)
  .addOption(new Option('--format <format>', 'form of the outputs').choices([...outputFormats]))
  .option('--json', 'print the whole prediction')
  .addOption(urlOption())
  .addOption(keyOption())
  .action((model: string, inputs: string | undefined, options: PredictOptions) => run(async () =>
    (await predict(model, inputs, options) ? exitCodes.done : exitCodes.failed)));

program.command('models').description('list the models that the API serves')
  .option('--json', 'print them whole')
  .addOption(urlOption())
  .addOption(keyOption())
  .action((options: { url: string; key?: string; json?: boolean }) => run(async () => {
    await models(options);
    return exitCodes.done;
  }));

const backfillCommands = program.command('backfill').description('run a model over all rows of a file; without --url, all that it takes is started for this one run')
  .enablePositionalOptions()
  .option('--model <name>', 'name, name@version or name@alias')
  .option('--input <file>', 'a file or a glob of many, or s3://bucket/key: CSV, NDJSON or Parquet')
  .option('--output <file>', 'the file to write, or s3://bucket/key')
  .addOption(new Option('--format <format>', 'of the input, where its name does not tell').choices([...backfillFormats]))
  .addOption(new Option('--output-format <format>', 'of the output, where its name does not tell').choices([...backfillFormats]))
  .option('--header', 'CSV: the first row of each file names the columns, as by default')
  .option('--no-header', 'CSV: there is no such row, and columns are column0, column1, …')
  .option('--delimiter <character>', 'CSV: what separates columns; \\t is a tab', delimiter)
  .option('--quote <character>', 'CSV: what goes around values')
  .option('--escape <character>', 'CSV: what makes a quote inside quotes plain')
  .addOption(new Option('--encoding <encoding>', 'of CSV and NDJSON').choices([...encodings]))
  .addOption(new Option('--missing <what>', 'what a missing number is').choices(['refuse', 'nan']))
  .option('--map <input=columns>', 'the columns that make up an input, as in x=a,b or x=p0..p63; once for each input', mapping)
  .option('--id <column>', 'what names a row in the output, in place of its number')
  .option('--carry <columns>', 'columns that stand in the output too, separated by commas', columns)
  .addOption(new Option('--vectors <form>', 'outputs with several values: one column of lists, or expanded to many').choices([...vectorForms]))
  .option('--overwrite', 'replace files that are there already')
  .option('--max-error-ratio <ratio>', 'fail where more of the rows fail, as in 0.01', ratio)
  .option('--max-attempts <count>', 'how often rows are run where they fail for a reason that may pass', atLeastOne)
  .option('--priority <number>', 'among backfills, 0 runs first and 7 last', wholeNumber)
  .option('--chunk-rows <count>', 'most rows that a worker takes on at once; by default about 4 s of work', atLeastOne)
  .option('-w, --workers <count>', 'without an API: worker processes', atLeastOne, availableParallelism())
  .addOption(modelsOption())
  .option('--restart', 'without an API: begin anew, whatever an earlier run has left')
  .addOption(new Option('--url <url>', 'a running API').env('MILLRACE_URL'))
  .addOption(keyOption())
  .option('--json', 'print the whole backfill at its end')
  .action((options: BackfillOptions, command: Command) => {
    for (const name of ['model', 'input', 'output'] as const) if (options[name] === undefined) command.error(`error: required option '--${name}' not specified`);
    return run(async () => {
      const { backfill } = await import('./commands/backfill.ts');
      const status = await backfill({ ...options, url: options.url || undefined, redisServer: redis.redisServer, commandLine: process.argv.slice(2) }, exitCodes.interrupted);
      return status === 'completed' ? exitCodes.done : status === 'paused' || status === undefined ? exitCodes.interrupted : exitCodes.failed;
    });
  });
const knownBackfills = () => import('./commands/backfills.ts');
const backfillCommand = (usage: string) => backfillCommands.command(usage).addOption(urlOption()).addOption(keyOption()).option('--json', 'print it whole');

backfillCommand('list').description('list the backfills of a running API, the newest first')
  .addOption(new Option('--status <status>', 'only these').choices([...backfillStates]))
  .option('--limit <count>', 'how many at most', atLeastOne, 50)
  .action((options: ListOptions) => run(async () => {
    await (await knownBackfills()).listBackfills(options);
    return exitCodes.done;
  }));

backfillCommand('get <id>').description('how far one is')
  .action((id: string, options: ApiPlace & { json?: boolean }) => run(async () => {
    await (await knownBackfills()).getBackfill(id, options);
    return exitCodes.done;
  }));

const wishes = { pause: 'pause one: what workers run is finished first', resume: 'go on with one that is paused or has failed', cancel: 'end one for good, without output', retry: 'run the rows again that failed' };
for (const wish of backfillWishes) {
  backfillCommand(`${wish} <id>`).description(wishes[wish]).action((id: string, options: ApiPlace & { json?: boolean }) => run(async () => {
    await (await knownBackfills()).askBackfill(id, wish, options);
    return exitCodes.done;
  }));
}

const keys = program.command('keys').description('API keys; as soon as there is one, every request needs one');
/** Loaded when it is wanted: with BullMQ and ioredis every command would start in 0.67 s in place of 0.33. */
const keyStore = () => import('./commands/keys.ts');
const keysCommand = (usage: string) => keys.command(usage)
  .addOption(new Option('--redis <url>', 'Redis of the API; else that of a running `millrace up`').env('REDIS_URL'))
  .addOption(new Option('--redis-tls-ca-file <file>', 'authorities for its certificate').env('MILLRACE_REDIS_TLS_CA_FILE'))
  .addOption(new Option('--redis-tls-cert-file <file>', 'certificate to show to it').env('MILLRACE_REDIS_TLS_CERT_FILE'))
  .addOption(new Option('--redis-tls-key-file <file>', 'key of that certificate').env('MILLRACE_REDIS_TLS_KEY_FILE'))
  .addOption(dataOption('data folder of that `millrace up`'));

keysCommand('create').description('make a key and print it, this once')
  .requiredOption('--tenant <name>', 'who owns what the key submits: small letters, digits and dashes', tenantName)
  .option('--name <text>', 'what the key is for')
  .addOption(new Option('--scope <scope...>', 'what it may do').choices([...scopes, 'all']).default(['all']))
  .option('--expires <time>', 'how long it lives, as in 90m, 12h or 30d; for good by default', duration)
  .option('--rate <count>', 'predictions a minute, over all API nodes', atLeastOne)
  .option('--in-flight <count>', 'requests at once, at each API node', atLeastOne)
  .option('--body-bytes <count>', 'bytes of a request body', atLeastOne)
  .option('--json', 'print the key with its record')
  .action((options: NewKeyOptions & { scope: (Scope | 'all')[] }) => run(async () => {
    await (await keyStore()).createKey({ ...options, scope: scopes.filter((scope) => options.scope.includes('all') || options.scope.includes(scope)) });
    return exitCodes.done;
  }));

keysCommand('list').description('list all keys, also those that are of no use any more')
  .option('--json', 'print them whole')
  .action((options: KeysPlace & { json?: boolean }) => run(async () => {
    await (await keyStore()).listKeys(options);
    return exitCodes.done;
  }));

keysCommand('revoke <id>').description('end a key for good')
  .action((id: string, options: KeysPlace) => run(async () => {
    await (await keyStore()).revokeKey(id, options);
    return exitCodes.done;
  }));

const webhooks = program.command('webhooks').description('webhooks: receive them here, look at deliveries, send them again');
const webhookCommands = () => import('./commands/webhooks.ts');
const webhooksCommand = (usage: string) => webhooks.command(usage).addOption(urlOption()).addOption(keyOption());

webhooksCommand('listen').description('receive webhooks on this machine, verify and print each, until Ctrl-C')
  .option('-p, --port <port>', 'port on 127.0.0.1; 0 picks a free one', wholeNumber, 8787)
  .addOption(new Option('--secret <secret>', 'what they are signed with; the API is asked for it by default').argParser(webhookSecret))
  .option('--register', 'make an endpoint that is told how all predictions and backfills end, and remove it at the end')
  .option('--fail <count>', 'answer so many that verify with 500 first', wholeNumber, 0)
  .option('--json', 'print them whole, one JSON object a line')
  .action((options: ListenOptions) => run(async () => {
    await (await import('./commands/listen.ts')).listen(options);
    return exitCodes.done;
  }));

webhooksCommand('deliveries').description('list what was told to whom, the newest first')
  .addOption(new Option('--status <status>', 'only these').choices([...deliveryStates]))
  .option('--endpoint <id>', 'only to this registered endpoint')
  .option('--limit <count>', 'how many at most', atLeastOne, 50)
  .option('--json', 'print them whole')
  .action((options: DeliveriesOptions) => run(async () => {
    await (await webhookCommands()).deliveries(options);
    return exitCodes.done;
  }));

webhooksCommand('redeliver [id]').description('send a delivery again that has ended, or all that are dead')
  .option('--dead', 'all that are dead')
  .option('--endpoint <id>', 'of those, only to this registered endpoint')
  .option('--since <time>', 'of those, only of events since a time (RFC 3339), or since so long ago, as in 90m, 12h or 7d', time)
  .action((id: string | undefined, { dead, ...options }: RedeliverOptions & { dead?: boolean }, command: Command) => {
    if ((id === undefined) !== (dead === true)) command.error('error: expected the id of a delivery, or --dead');
    if (id !== undefined && (options.endpoint ?? options.since) !== undefined) command.error('error: --endpoint and --since go with --dead');
    return run(async () => {
      const { redeliver, redeliverDead } = await webhookCommands();
      await (id === undefined ? redeliverDead(options) : redeliver(id, options));
      return exitCodes.done;
    });
  });

program.command('demo').description('start everything, classify 360 handwritten digits over HTTP, show how workers come and go with the load, stop')
  .addOption(modelsOption())
  .addOption(keyOption())
  .action((options: { models: string; key?: string }) => run(async () => (await demo({ ...options, ...redis }) ? exitCodes.done : exitCodes.failed)));

program.command('bench').description('measure on this machine: `bench online`; `bench --help` lists the rest')
  .helpOption(false).allowUnknownOption().argument('[args...]')
  .action((args: string[]) => run(() => bench(args, { ...redis, wrk: env['MILLRACE_WRK'] })));

await program.parseAsync();

/** The one place where a command's failure is reported. */
async function run(command: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await command();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = error instanceof ClientError && error.status === 0 ? exitCodes.unreachable : exitCodes.failed;
  }
}

function wholeNumber(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError('expected a whole number');
  return Number(text);
}

function atLeastOne(text: string): number {
  if (!/^[1-9]\d{0,11}$/.test(text)) throw new InvalidArgumentError('expected a whole number of at least 1');
  return Number(text);
}

function workers(text: string): number | WorkerRange {
  if (text === 'auto') return { least: 1, most: availableParallelism() };
  const [, least, most] = /^(\d{1,4})\.\.([1-9]\d{0,3})$/.exec(text) ?? [];
  if (least === undefined && /^\d{1,4}$/.test(text)) return Number(text);
  if (!(Number(least) <= Number(most))) throw new InvalidArgumentError('expected a whole number, min..max, or auto');
  return { least: Number(least), most: Number(most) };
}

function ratio(text: string): number {
  const value = Number(text);
  if (!/^\d*\.?\d+$/.test(text) || value > 1) throw new InvalidArgumentError('expected a number from 0 to 1');
  return value;
}

function delimiter(text: string): string {
  return text === '\\t' ? '\t' : text;
}

/** `a,p0..p2` are a, p0, p1 and p2. */
function columns(text: string): string[] {
  return text.split(',').flatMap((name) => {
    const [, stem, from, to] = /^(.*?)(\d{1,6})\.\.\1(\d{1,6})$/.exec(name) ?? [];
    return from === undefined ? name : Array.from({ length: Math.max(0, Number(to) - Number(from) + 1) }, (_, place) => `${stem}${Number(from) + place}`);
  });
}

function mapping(text: string, before: Record<string, string | string[]> = {}): Record<string, string | string[]> {
  const [, input, listed] = /^([^=]+)=(.+)$/.exec(text) ?? [];
  if (input === undefined || listed === undefined) throw new InvalidArgumentError('expected an input and its columns, as in x=a,b,c');
  const [first = '', ...more] = columns(listed);
  return { ...before, [input]: more.length === 0 ? first : [first, ...more] };
}

function tenantName(text: string): string {
  if (!new RegExp(tenantPattern).test(text)) throw new InvalidArgumentError('expected up to 63 small letters, digits and dashes');
  return text;
}

function webhookSecret(text: string): string {
  if (!/^whsec_([A-Za-z0-9+/]{4})+([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/.test(text)) throw new InvalidArgumentError('expected whsec_ and base64');
  return text;
}

/** Milliseconds since the epoch. */
function time(text: string): number {
  if (/^[1-9]\d{0,4}[mhd]$/.test(text)) return Date.now() - duration(text);
  const at = /^\d{4}-\d\d-\d\dT/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) throw new InvalidArgumentError('expected a time as in 2026-11-23T05:06:32Z, or as in 90m, 12h or 7d');
  return at;
}

/** Milliseconds. */
function duration(text: string): number {
  const [, count, unit] = /^([1-9]\d{0,4})([mhd])$/.exec(text) ?? [];
  if (count === undefined) throw new InvalidArgumentError('expected minutes, hours or days, as in 90m, 12h or 30d');
  return Number(count) * { m: 60_000, h: 3_600_000, d: 86_400_000 }[unit as 'm' | 'h' | 'd'];
}
