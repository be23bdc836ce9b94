// Where promtool, which checks and tests Prometheus' rules, stands: on PATH, else in its private folder, which is filled where it is empty.
import { findOrInstall } from './private-apt.mjs';

/**
 * The path of a promtool that runs. Throws SetUpFailure where there is none and apt cannot bring one.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string}
 */
export function findOrInstallPromtool(env = process.env) {
  return findOrInstall({ title: 'promtool', folder: 'promtool', program: 'promtool', packages: ['prometheus'], advice: 'Install Prometheus.' }, env);
}
