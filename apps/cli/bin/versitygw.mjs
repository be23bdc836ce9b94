// Where versitygw, the S3 server that tests of object stores run against, stands: on PATH, else in its private folder, which Go
// fills where it is empty. Where there is no Go either, Debian's brings the one that is new enough, and both leave with the scratch folder.
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { run, say } from './command.mjs';
import { unpackFromApt } from './private-apt.mjs';
import { pathFolders, privateFolders, programFolders } from './private-folders.mjs';

const version = 'v1.8.0';
const privateName = `versitygw-${version}`;
const advice = 'Install Go 1.21 or newer, or versitygw.';
/** Of versitygw's go.mod. From 1.21 on Go fetches what a module needs by itself. */
const goVersion = '1.25.0';
const goArchitectures = /** @type {Readonly<Record<string, string>>} */ ({ x64: 'amd64', arm64: 'arm64' });

/**
 * Undefined where there is none.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string | undefined}
 */
export function findVersitygw(env = process.env) {
  return programFolders(privateName, env).map((folder) => path.join(folder, 'versitygw')).find((file) => existsSync(file));
}

/**
 * Throws SetUpFailure where there is none and none can be built.
 *
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {string}
 */
export function findOrInstallVersitygw(env = process.env) {
  const found = findVersitygw(env);
  if (found !== undefined) return found;
  say('building versitygw, an S3 server to test with, once; this takes a minute or two');
  const [folder] = privateFolders(privateName, env);
  const scratch = mkdtempSync(path.join(tmpdir(), 'millrace-go-'));
  try {
    const { go, itsEnv } = goOnPath(env) ?? privateGo(scratch, env);
    // Renamed into place by Go itself, whole.
    run(go, ['install', `github.com/versity/versitygw/cmd/versitygw@${version}`], { failure: `Go could not build versitygw ${version}. ${advice}`, env: { ...itsEnv, GOBIN: folder, CGO_ENABLED: '0' } });
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
  return path.join(folder, 'versitygw');
}

/** @param {NodeJS.ProcessEnv} env */
function goOnPath(env) {
  const go = pathFolders(env).map((folder) => path.join(folder, 'go')).find((file) => existsSync(file));
  const minor = go && /go1\.(\d+)/.exec(run(go, ['version'], { failure: `${go} does not run. ${advice}`, env }))?.[1];
  return go && Number(minor) >= 21 ? { go, itsEnv: env } : undefined;
}

/**
 * Debian's own, which may be an old one, fetches the right one: the Go toolchain is a module, too.
 *
 * @param {string} scratch
 * @param {NodeJS.ProcessEnv} env
 */
function privateGo(scratch, env) {
  const root = path.join(scratch, 'debian');
  unpackFromApt({ title: 'Go', packages: ['golang-go'], advice }, root, env);
  const itsEnv = { ...env, GOPATH: path.join(scratch, 'path'), GOCACHE: path.join(scratch, 'cache'), GOFLAGS: '-modcacherw', GOTOOLCHAIN: 'local' };
  const module = `golang.org/toolchain@v0.0.1-go${goVersion}.linux-${goArchitectures[process.arch]}`;
  const { Dir: folder } = JSON.parse(run(path.join(root, 'usr/bin/go'), ['mod', 'download', '-json', module], { failure: `Go ${goVersion} could not be downloaded. ${advice}`, cwd: scratch, env: itsEnv }));
  // Modules hold no programs, as far as the old one knows.
  const tools = path.join(folder, 'pkg/tool', `linux_${goArchitectures[process.arch]}`);
  for (const place of [path.join(folder, 'bin'), tools]) for (const name of readdirSync(place)) chmodSync(path.join(place, name), 0o755);
  return { go: path.join(folder, 'bin/go'), itsEnv };
}
