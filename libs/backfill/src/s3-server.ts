// For tests: a real S3 server, versitygw (https://github.com/versity/versitygw), over a folder.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { ObjectStoreOptions } from './object-store.ts';

export interface S3Server {
  readonly options: ObjectStoreOptions;
  /** Has one bucket of this name. */
  readonly bucket: string;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** Stops it and removes what it holds. */
  close(): Promise<void>;
}

/** `program`: the path of a versitygw, which `npm test` looks for, or builds. */
export async function startS3Server(program: string | undefined): Promise<S3Server> {
  if (!program) throw new Error('the tests of object stores need versitygw: run `npm run setup -- --tests`, or put it on the PATH');
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
