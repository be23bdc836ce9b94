// A receiver of webhooks in a process of its own: a plain server that answers 204, counts, and notes how late each came. It
// can also play hosts that are dead. Tasks come by IPC.
import { createServer, type RequestListener } from 'node:http';
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net';

export type ReceiverTask =
  /** Listens at these addresses of the loopback network, all at one port; gives the port. */
  | { readonly kind: 'open'; readonly healthy: readonly string[]; readonly hanging: readonly string[]; readonly dripping: readonly string[] }
  /** Gives a `Count`. */
  | { readonly kind: 'count' }
  /** Gives the ids among these that have not arrived. */
  | { readonly kind: 'missing'; readonly ids: readonly string[] }
  /** Notes how late they come, from now on. */
  | { readonly kind: 'note lateness' }
  /** Ends that, and gives how late they came at these addresses: milliseconds from the event's time. */
  | { readonly kind: 'lateness'; readonly addresses: readonly string[] };

export interface Count {
  readonly arrived: number;
  /** Of these, those whose id had arrived before. */
  readonly repeated: number;
  /** One of theirs. */
  readonly body: string;
}

const dripMs = 250;

const ids = new Set<string>();
let arrived = 0;
let body = '';
/** By address, while somebody asks for it. */
let latenessMs: Map<string, number[]> | undefined;

const take: RequestListener = (request, response) => {
  request.once('data', (chunk: Buffer) => {
    arrived++;
    ids.add(String(request.headers['webhook-id']));
    if (arrived === 1 || latenessMs) body = chunk.toString();
    if (latenessMs) note(latenessMs, String(request.socket.localAddress));
  });
  request.once('end', () => { response.writeHead(204).end(); });
};

function note(lateness: Map<string, number[]>, address: string): void {
  const lateMs = Date.now() - Date.parse(/"timestamp":"([^"]+)"/.exec(body)?.[1] ?? '');
  const its = lateness.get(address);
  if (its) its.push(lateMs);
  else lateness.set(address, [lateMs]);
}

/** Answers so slowly that the answer never comes. */
function drip(socket: Socket): void {
  const letters = `HTTP/1.1 204 ${'x'.repeat(1000)}`[Symbol.iterator]();
  const timer = setInterval(() => { socket.write(letters.next().value ?? 'x'); }, dripMs);
  socket.on('close', () => clearInterval(timer));
}

async function open({ healthy, hanging, dripping }: ReceiverTask & { kind: 'open' }): Promise<number> {
  let port = 0;
  const listen = async (server: Server, host: string) => {
    await new Promise<void>((resolve) => { server.listen({ host, port }, resolve); });
    ({ port } = server.address() as AddressInfo);
  };
  const deaf = (socket: Socket) => socket.on('error', () => { /* the other end gives up */ }).resume();
  for (const host of healthy) await listen(createServer(take), host);
  for (const host of hanging) await listen(createTcpServer(deaf), host);
  for (const host of dripping) await listen(createTcpServer((socket) => drip(deaf(socket))), host);
  return port;
}

function endNoting(addresses: readonly string[]): number[] {
  const lateness = latenessMs;
  latenessMs = undefined;
  return addresses.flatMap((address) => lateness?.get(address) ?? []);
}

async function perform(task: ReceiverTask): Promise<unknown> {
  switch (task.kind) {
    case 'open': return open(task);
    case 'count': return { arrived, repeated: arrived - ids.size, body } satisfies Count;
    case 'missing': return task.ids.filter((id) => !ids.has(id));
    case 'note lateness': return void (latenessMs = new Map());
    case 'lateness': return endNoting(task.addresses);
    default: return task satisfies never;
  }
}

process.on('message', (task: ReceiverTask) => { void perform(task).then((result) => process.send?.(result ?? null)); });
process.send?.('ready');
process.on('disconnect', () => process.exit());
