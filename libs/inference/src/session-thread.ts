// An inference thread: holds sessions, and does what the main thread asks for, one request at a time.
import { parentPort } from 'node:worker_threads';
import { giveBackAll, MillraceError } from '@millrace/protocol';
import { env } from 'onnxruntime-node';
import { buffersOf, runBatch } from './run-batch.ts';
import { openSession } from './session.ts';
import type { Session } from './session.ts';
import type { LoadReply, LoadRequest, Request, RunRequest } from './thread-messages.ts';

if (!parentPort) throw new Error('this file is the body of a worker thread');
const port = parentPort;
const sessions = new Map<string, Session>();
env.logLevel = 'error';

// An error that is not expected ends the thread: the engine hears of it.
let previous = Promise.resolve();
port.on('message', ({ id, request }: { id: number; request: Request }) => {
  previous = previous.then(() => answer(id, request));
});

async function answer(id: number, request: Request): Promise<void> {
  switch (request.type) {
    case 'hello': return port.postMessage({ id });
    case 'load': return port.postMessage({ id, reply: await load(request) });
    case 'run': return run(id, request);
    case 'release': return port.postMessage({ id, reply: await release(request.key) });
    case 'stop':
      for (const key of sessions.keys()) await release(key);
      port.postMessage({ id });
      // Nothing else keeps the thread alive. To terminate it from outside could abort the process (see SessionHost).
      return port.close();
    default: throw new Error(`unknown request ${JSON.stringify(request satisfies never)}`);
  }
}

async function load(request: LoadRequest): Promise<LoadReply> {
  const startedAt = performance.now();
  try {
    const session = await openSession(request);
    sessions.set(request.key, session);
    const { providers, batched, warnings } = session;
    return { ok: true, loadMs: performance.now() - startedAt, providers, batched, warnings };
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    return { ok: false, code: error.code, detail: error.message };
  }
}

async function run(id: number, request: RunRequest): Promise<void> {
  const session = sessions.get(request.key);
  if (!session) throw new Error('a batch came for a session that is not loaded');
  const reply = await runBatch(session, request);
  giveBackAll(request.inputs);
  port.postMessage({ id, reply }, buffersOf(reply));
}

async function release(key: string): Promise<void> {
  const session = sessions.get(key);
  sessions.delete(key);
  await session?.release();
}
