// Other programs, run to the end in the foreground, and how the set-up says that it cannot go on.
import { spawnSync } from 'node:child_process';

/** An expected failure of the set-up: one sentence for the user, after the output of the command that failed. */
export class SetUpFailure extends Error {
  name = 'SetUpFailure';

  /** @param {string} message @param {string} [output] */
  constructor(message, output = '') {
    super(message);
    this.output = output;
  }
}

/**
 * Runs a command in silence and gives its standard output. Where it fails, throws a SetUpFailure with its
 * whole output and the sentence `failure`.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ failure: string, cwd?: string, env?: NodeJS.ProcessEnv }} options
 * @returns {string}
 */
export function run(command, args, { failure, ...options }) {
  const ended = spawnSync(command, args, {
    ...options,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 * 1024 * 1024,
  });
  if (ended.status === 0) return ended.stdout;
  const output = [ended.stdout, ended.stderr, ended.error?.message].filter(Boolean).join('\n').trim();
  throw new SetUpFailure(failure, output);
}

/**
 * An expected failure is told in its own words; a bug keeps its stack.
 *
 * @param {unknown} error
 */
export function report(error) {
  if (!(error instanceof SetUpFailure)) throw error;
  if (error.output !== '') process.stderr.write(`${error.output}\n`);
  say(error.message);
}

/**
 * @param {unknown} error
 * @returns {never}
 */
export function reportAndExit(error) {
  report(error);
  process.exit(1);
}

/** @param {string} line */
export function say(line) {
  process.stderr.write(`millrace: ${line}\n`);
}
