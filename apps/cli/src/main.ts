// The command line: `millrace up | predict | models | demo | bench`.
import { fileURLToPath } from 'node:url';
import { outputFormats } from '@millrace/protocol';
import { Command, InvalidArgumentError, Option } from 'commander';
import manifest from '../package.json' with { type: 'json' };
import { ClientError } from './client.ts';
import { bench } from './commands/bench.ts';
import { demo } from './commands/demo.ts';
import { models } from './commands/models.ts';
import { predict, type PredictOptions } from './commands/predict.ts';
import { up, type UpOptions } from './commands/up.ts';

/** 0 done, 1 failed, 2 wrong usage (commander's), 3 the API cannot be reached. */
const exitCodes = { done: 0, failed: 1, unreachable: 3 } as const;

const env = process.env;
const redis = { redisServer: env['MILLRACE_REDIS_SERVER'], redisUrl: env['REDIS_URL'] };
const bundledModels = fileURLToPath(new URL('../../../deploy/models', import.meta.url));
const urlOption = () => new Option('--url <url>', 'the API').default(env['MILLRACE_URL'] ?? 'http://127.0.0.1:8080');
const modelsOption = () => new Option('--models <folder>', 'model repository: <name>/<version>/model.onnx').default(env['MILLRACE_MODELS'] ?? bundledModels, 'the bundled models');

const program = new Command('millrace')
  .description('Queue-driven inference for ONNX models.')
  .version(manifest.version)
  .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : 2));

program.command('up').description('run everything on this machine: Redis, the API and workers')
  .option('-p, --port <port>', 'port of the API; 0 picks a free one', wholeNumber, Number(env['MILLRACE_PORT'] ?? 8080))
  .option('-w, --workers <count>', 'worker processes', wholeNumber, 1)
  .option('--data <folder>', 'where the queue is kept across restarts', '.millrace/redis')
  .addOption(modelsOption())
  .action((options: UpOptions) => run(async () => {
    await up({ ...options, ...redis });
    return exitCodes.done;
  }));

program.command('predict <model> [inputs]').description('make one prediction; inputs as JSON, from the argument, --file or standard input')
  .option('-f, --file <file>', 'read the inputs from a file')
  .option('--wait <seconds>', 'how long to wait for the result', wholeNumber, 30)
  .addOption(new Option('--format <format>', 'form of the outputs').choices([...outputFormats]))
  .option('--json', 'print the whole prediction')
  .addOption(urlOption())
  .action((model: string, inputs: string | undefined, options: PredictOptions) => run(async () =>
    (await predict(model, inputs, options) ? exitCodes.done : exitCodes.failed)));

program.command('models').description('list the models that the API serves')
  .option('--json', 'print them whole')
  .addOption(urlOption())
  .action((options: { url: string; json?: boolean }) => run(async () => {
    await models(options);
    return exitCodes.done;
  }));

program.command('demo').description('start everything, classify 360 handwritten digits over HTTP, show how it went, stop')
  .addOption(modelsOption())
  .action((options: { models: string }) => run(async () => (await demo({ ...options, ...redis }) ? exitCodes.done : exitCodes.failed)));

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
