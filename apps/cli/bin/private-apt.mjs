// A private program out of Debian's packages: apt resolves and downloads, dpkg-deb unpacks into the user's cache. It needs
// no root, changes nothing in the system, and starts nothing. Root and ordinary users take the same way.
import { spawnSync } from 'node:child_process';
import {
  chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { run, say, SetUpFailure } from './command.mjs';
import { privateFolders, programFolders } from './private-folders.mjs';

/**
 * @typedef {object} PrivateProgram
 * @property {string} title its name in messages
 * @property {string} folder its folder's name among the private programs
 * @property {string} program the file that its package puts into /usr/bin
 * @property {string[]} packages the packages to unpack; what else they need comes along where the system lacks it
 * @property {string} advice what the user can do where apt cannot help, as a sentence
 */

/**
 * The path of a program that runs: on PATH, else a private one, which is installed where there is none. Throws SetUpFailure
 * where that cannot be done.
 *
 * @param {PrivateProgram} wanted
 * @param {NodeJS.ProcessEnv} env
 * @returns {string}
 */
export function findOrInstall(wanted, env) {
  const found = find(wanted, env);
  if (found !== undefined) return found;
  installFromApt(wanted, env);
  const installed = find(wanted, env);
  if (installed !== undefined) return installed;
  throw new SetUpFailure(`The ${wanted.title} of this system's packages does not run. ${wanted.advice}`);
}

/**
 * @param {PrivateProgram} wanted
 * @param {NodeJS.ProcessEnv} env
 */
function find({ folder, program }, env) {
  return programFolders(folder, env)
    .map((place) => path.join(place, program))
    .find((file) => existsSync(file) && tellsVersion(file, program));
}

/**
 * Whatever code it ends with; a private copy whose libraries have left the system since tells nothing.
 *
 * @param {string} file
 * @param {string} program
 */
function tellsVersion(file, program) {
  const { stdout } = spawnSync(file, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return (stdout ?? '').startsWith(program);
}

// Not `&&`: one broken source among many fails the update, and the package may come from another.
// --reinstall downloads a package also where the system has it.
const aptCommands = `
  apt-get --config-file "$0" update
  apt-get --config-file "$0" install --download-only --reinstall --yes --no-install-recommends "$@"
`;

/**
 * Fills the private folder of a program; throws SetUpFailure where that cannot be done.
 *
 * @param {PrivateProgram} wanted
 * @param {NodeJS.ProcessEnv} [env]
 */
export function installFromApt(wanted, env = process.env) {
  const { title, advice } = wanted;
  const folder = privateFolders(wanted.folder, env).find(canBeMade);
  if (folder === undefined) throw new SetUpFailure(`There is no folder to write a private ${title} to. ${advice}`);
  const staged = `${folder}.${process.pid}`;
  try {
    unpackFromApt(wanted, path.join(staged, 'root'), env);
    writeWrapper(staged, wanted.program);
    // Renamed into place whole, so that an interrupted set-up never leaves half a program to be found.
    rmSync(folder, { recursive: true, force: true });
    renameSync(staged, folder);
  } finally {
    rmSync(staged, { recursive: true, force: true });
  }
}

/**
 * Unpacks packages, and what they need where the system lacks it, into a folder; throws SetUpFailure where that cannot be done.
 *
 * @param {Pick<PrivateProgram, 'title' | 'packages' | 'advice'>} wanted
 * @param {string} root
 * @param {NodeJS.ProcessEnv} env
 */
export function unpackFromApt(wanted, root, env) {
  const { title, advice } = wanted;
  if (!['apt-get', 'dpkg-deb'].every((tool) => isOnPath(tool, env))) throw new SetUpFailure(`There is no ${title} here. ${advice}`);
  say(`downloading a private ${title}, once; nothing in the system changes`);
  const scratch = mkdtempSync(path.join(tmpdir(), 'millrace-apt-'));
  try {
    unpack(download(scratch, wanted, env), root, wanted);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/**
 * @param {string} program
 * @param {NodeJS.ProcessEnv} env
 */
function isOnPath(program, env) {
  return (env.PATH ?? '').split(path.delimiter).some((folder) => existsSync(path.join(folder, program)));
}

/** @param {string} folder */
function canBeMade(folder) {
  try {
    rmSync(mkdtempSync(path.join(makeFolder(path.dirname(folder)), 'try-')), { recursive: true });
    return true;
  } catch {
    return false;
  }
}

/**
 * @param {string} scratch
 * @param {Pick<PrivateProgram, 'title' | 'packages' | 'advice'>} wanted
 * @param {NodeJS.ProcessEnv} env
 * @returns {string[]} the files of the packages, and of those of their dependencies that the system lacks
 */
function download(scratch, { title, packages, advice }, env) {
  const archives = makeFolder(path.join(scratch, 'cache', 'archives'));
  makeFolder(path.join(archives, 'partial'));
  makeFolder(path.join(scratch, 'state', 'lists', 'partial'));
  const config = path.join(scratch, 'apt.conf');
  writeFileSync(config, aptConfig(scratch));
  run('sh', ['-c', aptCommands, config, ...packages], {
    failure: `apt could not download ${title}. ${advice}`,
    env: { ...env, LC_ALL: 'C' },
  });
  return readdirSync(archives)
    .filter((name) => name.endsWith('.deb'))
    .map((name) => path.join(archives, name));
}

/**
 * apt's state and cache move to `scratch`; only the list of what is installed is the system's. The hooks go because they
 * act on the system's own cache, the further indexes because nothing here reads them.
 *
 * @param {string} scratch
 */
function aptConfig(scratch) {
  return `
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear Acquire::IndexTargets;
Acquire::IndexTargets::deb::Packages {
  MetaKey "$(COMPONENT)/binary-$(ARCHITECTURE)/Packages";
  flatMetaKey "Packages";
  ShortDescription "Packages";
  Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Packages";
  flatDescription "$(RELEASE) Packages";
  Optional "0";
};
Acquire::Languages "none";
Acquire::GzipIndexes "true";
Acquire::Retries "2";
APT::Sandbox::User "root";
Debug::NoLocking "true";
Dir::State "${scratch}/state";
Dir::State::lists "lists";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "${scratch}/cache";
Dir::Cache::archives "archives";
`;
}

/**
 * @param {string[]} files
 * @param {string} root
 * @param {Pick<PrivateProgram, 'advice'>} wanted
 */
function unpack(files, root, { advice }) {
  makeFolder(root);
  for (const file of files) {
    run('dpkg-deb', ['--extract', file, root], { failure: `dpkg-deb could not unpack ${path.basename(file)}. ${advice}` });
  }
}

/**
 * The program must find the unpacked libraries. `exec` keeps the process id, by which its owner knows it.
 *
 * @param {string} folder
 * @param {string} program
 */
function writeWrapper(folder, program) {
  const root = path.join(folder, 'root');
  const libraries = readdirSync(root, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.so(\.|$)/.test(path.basename(file)))
    .map((file) => `$here/root/${path.dirname(file)}`);
  const wrapper = path.join(folder, program);
  const lines = [
    '#!/bin/sh',
    'here=${0%/*}',
    `export LD_LIBRARY_PATH="${[...new Set(libraries)].join(':')}"`,
    `exec "$here/root/usr/bin/${program}" "$@"`,
  ];
  writeFileSync(wrapper, `${lines.join('\n')}\n`);
  chmodSync(wrapper, 0o755);
}

/** @param {string} folder */
function makeFolder(folder) {
  mkdirSync(folder, { recursive: true });
  return folder;
}
