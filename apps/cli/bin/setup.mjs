// What a fresh machine with nothing but Node 20 and npm lacks: the npm dependencies, among them the Node 24 that
// Millrace runs on, and Redis. Does only what is missing. It runs before any dependency is there, on the machine's own
// Node, and so has none and is plain JavaScript.
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { report, reportAndExit, run, say, SetUpFailure } from './command.mjs';
import { installFromApt } from './private-apt.mjs';
import { findRedisServer } from './redis-server.mjs';
import { findOrInstallVersitygw } from './versitygw.mjs';
import { findOrInstallWrk } from './wrk.mjs';

const repository = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * Installs what is missing, and gives the programs to run: the pinned Node; the redis-server, which is undefined where
 * none is asked for or REDIS_URL names a running one; wrk, undefined where it is not asked for. Throws SetUpFailure where
 * it cannot go on.
 *
 * @param {{ redis?: boolean, wrk?: boolean }} [wanted]
 * @returns {Promise<{ node: string, redisServer: string | undefined, wrk: string | undefined }>}
 */
export async function setUp({ redis = true, wrk = false } = {}) {
  if (!dependenciesAreCurrent()) installDependencies();
  const node = findNode();
  const redisServer = redis && !process.env.REDIS_URL ? (findRedisServer() ?? installRedis()) : undefined;
  return { node, redisServer, wrk: wrk ? findOrInstallWrk() : undefined };
}

/**
 * npm writes node_modules/.package-lock.json when an installation is complete. The packages are compared, not the files'
 * times: a checkout makes any lockfile look new.
 */
function dependenciesAreCurrent() {
  const installed = lockedPackages('node_modules/.package-lock.json');
  return Object.entries(lockedPackages('package-lock.json')).every(([place, wanted]) => {
    if (place === '') return true;
    const found = installed[place];
    if (found === undefined) return Boolean(wanted.optional || wanted.devOptional);
    return found.version === wanted.version && found.integrity === wanted.integrity;
  });
}

/**
 * @typedef {{ version?: string, integrity?: string, optional?: boolean, devOptional?: boolean }} LockedPackage
 * @param {string} lockfile
 * @returns {Record<string, LockedPackage>} by their place in the repository
 */
function lockedPackages(lockfile) {
  const file = path.join(repository, lockfile);
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).packages : {};
}

function installDependencies() {
  say('installing the npm dependencies, once; this takes about a minute');
  run('npm', ['ci', '--include=dev', '--include=optional', '--loglevel=error'], {
    cwd: repository,
    env: { ...process.env, PATH: pathWithoutPackages() },
    failure: 'npm could not install the dependencies: its output is above.',
  });
}

/** `npm run` puts node_modules/.bin first; npm must not run on the Node that it is about to replace. */
function pathWithoutPackages() {
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  return folders.filter((folder) => !folder.endsWith(path.join('node_modules', '.bin'))).join(path.delimiter);
}

/** The Node 24 among the dependencies; npm leaves it out on platforms that it has no package for. */
function findNode() {
  const pinned = path.join(repository, 'node_modules', '.bin', 'node');
  if (existsSync(pinned)) return pinned;
  if (Number.parseInt(process.versions.node, 10) >= 24) return process.execPath;
  const platform = `${process.platform}-${process.arch}`;
  throw new SetUpFailure(
    `Millrace runs on Node 24, which has no package for ${platform}, and this is Node ${process.versions.node}: ` +
      'install Node 24 or newer.',
  );
}

function installRedis() {
  installFromApt({
    title: 'Redis',
    folder: 'redis',
    program: 'redis-server',
    // redis-tools holds the file that redis-server links to.
    packages: ['redis-server', 'redis-tools'],
    advice: 'Install Redis 6.2 or newer with your package manager, or set REDIS_URL.',
  });
  const found = findRedisServer();
  if (found !== undefined) return found;
  throw new SetUpFailure(
    "The Redis of this system's packages is older than 6.2 or does not run: install Redis 6.2 or newer, or set REDIS_URL.",
  );
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await setUp().catch(reportAndExit);
  // What only tests need: those of object stores say so where it is missing.
  if (process.argv.includes('--tests')) {
    try {
      findOrInstallVersitygw();
    } catch (error) {
      report(error);
    }
  }
}
