// Where the set-up puts programs that the system lacks.
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const repository = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * The folders that a private program may stand in, the preferred one first: the user's cache, or below node_modules where
 * there is no home to write to.
 *
 * @param {string} name
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string[]}
 */
export function privateFolders(name, env = process.env) {
  const caches = [path.join(repository, 'node_modules', '.cache')];
  if (env.HOME) caches.unshift(path.join(env.HOME, '.cache'));
  if (env.XDG_CACHE_HOME && path.isAbsolute(env.XDG_CACHE_HOME)) caches.unshift(env.XDG_CACHE_HOME);
  return caches.map((cache) => path.join(cache, 'millrace', name));
}

/**
 * The folders of PATH.
 *
 * @param {NodeJS.ProcessEnv} env
 * @returns {string[]}
 */
export function pathFolders(env) {
  return (env.PATH ?? '').split(path.delimiter).filter((folder) => path.isAbsolute(folder));
}

/**
 * The folders that a program may stand in: those of PATH, then its private ones.
 *
 * @param {string} name of the private ones
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string[]}
 */
export function programFolders(name, env = process.env) {
  return [...pathFolders(env), ...privateFolders(name, env)];
}
