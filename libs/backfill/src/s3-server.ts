// For tests: a real S3 server, versitygw (https://github.com/versity/versitygw), over a folder. It is taken from PATH, or
// built once by the Go toolchain into node_modules/.cache.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { ObjectStoreOptions } from './object-store.ts';

const version = 'v1.8.0';
/** Building takes a minute or two, once. */
export const buildTimeoutMs = 600_000;

export interface S3Server {
  readonly options: ObjectStoreOptions;
  /** Has one bucket of this name. */
  readonly bucket: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Stops it and removes what it holds. */
  close(): Promise<void>;
}

/** `env` is this process's: where programs are, and what Go needs. */
export async function startS3Server(env: NodeJS.ProcessEnv): Promise<S3Server> {
  const program = findProgram(env);
  const folder = await mkdtemp(join(tmpdir(), 'millrace-s3-'));
  const port = await freePort();
  const bucket = 'rows';
  await mkdir(join(folder, 'data', bucket), { recursive: true });
  await mkdir(join(folder, 'meta'));
  let child: ChildProcess | undefined;

  const start = async (): Promise<void> => {
    child = spawn(program, ['--port', `127.0.0.1:${port}`, '--quiet', 'posix', '--sidecar', join(folder, 'meta'), join(folder, 'data')], {
      stdio: 'ignore', env: { ROOT_ACCESS_KEY: 'millrace', ROOT_SECRET_KEY: 'millrace-secret', HOME: folder },
    });
    while (!await answers(port)) {
      if (child.exitCode !== null) throw new Error(`versitygw ended with ${child.exitCode}`);
      await wait(20);
    }
  };
  const stop = async (): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  };
  await start();
  return {
    options: { endpoint: `http://127.0.0.1:${port}`, region: 'us-east-1', accessKey: 'millrace', secretKey: 'millrace-secret' },
    bucket, start, stop,
    close: async () => {
      await stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function findProgram(env: NodeJS.ProcessEnv): string {
  const cache = join(import.meta.dirname, '../../../node_modules/.cache/millrace');
  const folders = [...(env.PATH ?? '').split(delimiter), cache];
  const found = folders.map((folder) => join(folder, 'versitygw')).find((path) => existsSync(path));
  if (found !== undefined) return found;
  try {
    execFileSync('go', ['install', `github.com/versity/versitygw/cmd/versitygw@${version}`], { env: { ...env, GOBIN: cache, CGO_ENABLED: '0' }, stdio: ['ignore', 'ignore', 'pipe'], timeout: buildTimeoutMs });
  } catch (cause) {
    throw new Error(`the tests of object stores need versitygw ${version} on PATH, or Go to build it`, { cause });
  }
  return join(cache, 'versitygw');
}

async function answers(port: number): Promise<boolean> {
  return fetch(`http://127.0.0.1:${port}/`).then(() => true, () => false);
}

async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
