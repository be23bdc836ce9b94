// Where a usable Redis (or Valkey) server stands: where MILLRACE_REDIS_SERVER says, on PATH, else in the private folder that the set-up fills.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { programFolders } from './private-folders.mjs';

const programs = ['redis-server', 'valkey-server'];

// BullMQ asks for 6.2 at least. Every Valkey is newer than that.
const oldest = { major: 6, minor: 2 };

/**
 * The path of a redis-server or valkey-server of version 6.2 or newer, or undefined. Installs nothing. What the
 * environment names is taken as it is.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string | undefined}
 */
export function findRedisServer(env = process.env) {
  if (env.MILLRACE_REDIS_SERVER) return env.MILLRACE_REDIS_SERVER;
  return programFolders('redis', env)
    .flatMap((folder) => programs.map((program) => path.join(folder, program)))
    .find((file) => existsSync(file) && isRecent(file));
}

/**
 * Running the program, not only finding it, also shows a private copy whose libraries have left the system since.
 *
 * @param {string} file
 */
function isRecent(file) {
  const { stdout } = spawnSync(file, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  const version = /\bv=(\d+)\.(\d+)/.exec(stdout ?? '');
  if (version === null) return false;
  const [major, minor] = [Number(version[1]), Number(version[2])];
  return major > oldest.major || (major === oldest.major && minor >= oldest.minor);
}
