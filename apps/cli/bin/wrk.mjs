// Where wrk, the benchmark's HTTP load tool, stands: on PATH, else in its private folder, which is filled where it is empty.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { SetUpFailure } from './command.mjs';
import { installFromApt } from './private-apt.mjs';
import { privateFolders } from './private-folders.mjs';

const advice = 'Install wrk with your package manager.';

/**
 * The path of a wrk that runs. Throws SetUpFailure where there is none and apt cannot bring one.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string}
 */
export function findOrInstallWrk(env = process.env) {
  return findWrk(env) ?? installWrk(env);
}

/** @param {NodeJS.ProcessEnv} env */
function findWrk(env) {
  const onPath = (env.PATH ?? '').split(path.delimiter).filter((folder) => path.isAbsolute(folder));
  return [...onPath, ...privateFolders('wrk', env)]
    .map((folder) => path.join(folder, 'wrk'))
    .find((file) => existsSync(file) && runs(file));
}

/** @param {NodeJS.ProcessEnv} env */
function installWrk(env) {
  installFromApt({ title: 'wrk', folder: 'wrk', program: 'wrk', packages: ['wrk'], advice }, env);
  const found = findWrk(env);
  if (found !== undefined) return found;
  throw new SetUpFailure(`The wrk of this system's packages does not run. ${advice}`);
}

/**
 * wrk ends with 1 after telling its version; a private copy whose libraries have left the system since tells none.
 *
 * @param {string} file
 */
function runs(file) {
  const { stdout } = spawnSync(file, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return (stdout ?? '').startsWith('wrk ');
}
