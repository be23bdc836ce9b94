// Other programs, run to the end in the foreground, and how the set-up says that it cannot go on.
import { spawnSync } from 'node:child_process';

/** An expected failure of the set-up: its message is all that the user needs to read. */
export class SetUpFailure extends Error {
  name = 'SetUpFailure';
}

/**
 * Runs a command in silence and gives its standard output. Where it fails, its whole output and then the sentence
 * `failure` are the message of a SetUpFailure.
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
  throw new SetUpFailure(`${output}\n${failure}`);
}

/** @param {string} line */
export function say(line) {
  process.stderr.write(`millrace: ${line}\n`);
}
