// The chunk thread: reads chunks and writes parts, so that the thread that talks to Redis never waits for it. It runs with less
// priority than the others of its process: predictions go first also where the processor is short.
import { type OpenChunk, openChunk, openStorage, type Plan, readPlan, writePart } from '@millrace/backfill';
import { lowerPriority } from '@millrace/process';
import { type Chunk, giveBackAll, MillraceError, type Tensor } from '@millrace/protocol';
import { parentPort, workerData } from 'node:worker_threads';
import type { ChunkReply, ChunkRequest, ChunkThreadData, OpenedChunk, WrittenPart } from './chunk-messages.ts';

if (!parentPort) throw new Error('this file is the body of a worker thread');
const port = parentPort;
const { work, settings } = workerData as ChunkThreadData;
// DuckDB's threads take over the priority of the one that makes them.
lowerPriority('chunks');
const storage = await openStorage(work, settings);
const plansKept = 16;
const plans = new Map<string, Promise<Plan>>();
const opened = new Map<number, { readonly plan: Plan; readonly backfillId: string; readonly chunk: OpenChunk }>();
let lastKey = 0;

port.on('message', ({ id, request }: { id: number; request: ChunkRequest }) => { void answer(id, request); });

async function answer(id: number, request: ChunkRequest): Promise<void> {
  try {
    const value = await fulfil(request);
    const reply: ChunkReply = { ok: true, value };
    port.postMessage({ id, reply }, request.type === 'open' ? buffersOf(value as OpenedChunk) : []);
    // Nothing else keeps the thread alive.
    if (request.type === 'stop') port.close();
  } catch (error) {
    const reply: ChunkReply = error instanceof MillraceError
      ? { ok: false, code: error.code, detail: error.message }
      : { ok: false, code: undefined, detail: error instanceof Error ? error.stack ?? error.message : String(error) };
    port.postMessage({ id, reply });
  }
}

async function fulfil(request: ChunkRequest): Promise<unknown> {
  switch (request.type) {
    case 'hello':
      // Here DuckDB's queries run, and Node's own file operations.
      lowerPriority('libuv-worker');
      return undefined;
    case 'open': return open(request.backfillId, request.chunk);
    case 'write': return write(request);
    case 'close':
      await opened.get(request.key)?.chunk.close();
      opened.delete(request.key);
      return undefined;
    case 'stop': return storage.close();
    default: return request satisfies never;
  }
}

async function open(backfillId: string, chunk: Chunk): Promise<OpenedChunk> {
  const plan = await planOf(backfillId);
  const key = ++lastKey;
  opened.set(key, { plan, backfillId, chunk: await openChunk(plan, chunk, { ...storage, work: storage.workOf(backfillId) }) });
  return { key, groups: (opened.get(key) as { chunk: OpenChunk }).chunk.groups };
}

async function write({ key, outcome }: Extract<ChunkRequest, { type: 'write' }>): Promise<WrittenPart> {
  const { plan, backfillId, chunk } = opened.get(key) as { plan: Plan; backfillId: string; chunk: OpenChunk };
  const { rows, written } = await writePart(plan, chunk, outcome, { work: storage.workOf(backfillId) });
  for (const { outputs } of outcome.done) giveBackAll(Object.values(outputs));
  return { rows, written };
}

function planOf(backfillId: string): Promise<Plan> {
  let plan = plans.get(backfillId);
  if (plan) return plan;
  plan = readPlan(storage.workOf(backfillId)).then((found) => {
    if (!found) throw new MillraceError('storage-unavailable', 'The backfill is not in this worker’s work folder: all processes need the same');
    return found;
  });
  plan.catch(() => plans.delete(backfillId));
  plans.set(backfillId, plan);
  const [oldest] = plans.keys();
  if (plans.size > plansKept && oldest !== undefined) plans.delete(oldest);
  return plan;
}

/** What is read is not needed here any more. */
function buffersOf({ groups }: OpenedChunk): ArrayBuffer[] {
  const tensors = groups.flatMap((group): Tensor[] => Object.values(group.tensors));
  return [...new Set(tensors.flatMap(({ dtype, data }) => (dtype === 'string' ? [] : [(data as Uint8Array<ArrayBuffer>).buffer])))];
}
