// Where wrk, the benchmark's HTTP load tool, stands: on PATH, else in its private folder, which is filled where it is empty.
import { findOrInstall } from './private-apt.mjs';

/**
 * The path of a wrk that runs. Throws SetUpFailure where there is none and apt cannot bring one.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string}
 */
export function findOrInstallWrk(env = process.env) {
  return findOrInstall({ title: 'wrk', folder: 'wrk', program: 'wrk', packages: ['wrk'], advice: 'Install wrk with your package manager.' }, env);
}
