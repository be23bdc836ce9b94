// For tests: receivers and name servers on loopback, good and hostile ones.
import { createSocket } from 'node:dgram';
import { Resolver } from 'node:dns/promises';
import { createServer as createHttpServer, type RequestListener } from 'node:http';
import { type AddressInfo, connect, createServer, isIPv4, type Server, type Socket } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { Worker } from 'node:worker_threads';
import ipaddr from 'ipaddr.js';
import { onTestFinished } from 'vitest';
import { type Resolve, resolveBy } from './target.ts';

/** Starts a server on a free port of 127.0.0.1 until the test is over, with its connections. Gives the port. */
async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('error', () => {}).once('close', () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  onTestFinished(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => { server.close(resolve); });
  });
  return (server.address() as AddressInfo).port;
}

/** A receiver that does with a connection what it likes. */
export async function startRaw(onConnection: (socket: Socket) => void): Promise<{ port: number; sockets: Socket[] }> {
  const sockets: Socket[] = [];
  const port = await listen(createServer((socket) => {
    sockets.push(socket);
    onConnection(socket);
  }));
  return { port, sockets };
}

/** A receiver that says this as soon as something is asked, and goes on with `then`. */
export function startSaying(text: string, then: (socket: Socket) => void = () => {}): Promise<{ port: number; sockets: Socket[] }> {
  return startRaw((socket) => {
    socket.once('data', () => {
      socket.write(text);
      then(socket);
    });
  });
}

/** An honest receiver. */
export async function startHttp(listener: RequestListener): Promise<number> {
  return listen(createHttpServer(listener));
}

/** Answers `ok` to everything, by TLS, with a certificate that it has signed itself. */
export async function startTls(): Promise<number> {
  return listen(createTlsServer(selfSigned, (socket) => {
    socket.on('error', () => {}).once('data', () => socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'));
  }));
}

/** A port whose queue is full, behind a process that accepts nothing: the handshake of TCP itself does not end. */
export async function startAcceptingNothing(): Promise<number> {
  const worker = new Worker(`
    const { createServer, connect } = require('node:net');
    const { parentPort } = require('node:worker_threads');
    const server = createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => {
      parentPort.postMessage(server.address().port);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    });`, { eval: true });
  onTestFinished(async () => { await worker.terminate(); });
  const port = await new Promise<number>((resolve) => { worker.once('message', resolve); });
  await fill(port);
  return port;
}

/** Connects until two have got in, which is what Linux lets wait with a backlog of 1. */
async function fill(port: number): Promise<void> {
  const queued = Array.from({ length: 4 }, () => connect(port, '127.0.0.1').on('error', () => {}));
  onTestFinished(() => { for (const socket of queued) socket.destroy(); });
  const first = queued.map((socket) => new Promise<void>((resolve) => { socket.once('connect', resolve); }));
  await Promise.all(first.slice(0, 2));
}

/**
 * Serves names by DNS until the test is over. Each name has a list of answers: the first query for a kind of address gets
 * the first one, and so on; the last one stays. A name that is not here does not exist.
 */
export async function startNameServer(names: Readonly<Record<string, readonly (readonly string[])[]>>): Promise<Resolve> {
  const asked = new Map<string, number>();
  const server = createSocket('udp4', (query, from) => {
    const { name, type, question } = readQuestion(query);
    const count = asked.get(`${name} ${type}`) ?? 0;
    asked.set(`${name} ${type}`, count + 1);
    const answers = names[name];
    const addresses = (answers?.[Math.min(count, answers.length - 1)] ?? []).filter((address) => isIPv4(address) === (type === 1));
    const head = Buffer.from(query.subarray(0, 12));
    head.writeUInt16BE(answers ? 0x8180 : 0x8183, 2);
    head.writeUInt16BE(addresses.length, 6);
    head.writeUInt32BE(0, 8);
    server.send(Buffer.concat([head, question, ...addresses.map((address) => record(type, address))]), from.port, from.address);
  });
  await new Promise<void>((resolve) => { server.bind(0, '127.0.0.1', resolve); });
  const resolver = new Resolver({ timeout: 2000, tries: 2 });
  resolver.setServers([`127.0.0.1:${server.address().port}`]);
  onTestFinished(async () => {
    resolver.cancel();
    await new Promise<void>((resolve) => { server.close(resolve); });
  });
  return resolveBy(resolver);
}

function readQuestion(query: Buffer): { name: string; type: number; question: Buffer } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query.readUInt8(at); length > 0; length = query.readUInt8(at)) {
    labels.push(query.toString('latin1', at + 1, at + 1 + length));
    at += length + 1;
  }
  return { name: labels.join('.').toLowerCase(), type: query.readUInt16BE(at + 1), question: query.subarray(12, at + 5) };
}

/** A record that points back to the name of the question, and may not be cached. */
function record(type: number, address: string): Buffer {
  const data = Buffer.from(ipaddr.parse(address).toByteArray());
  const head = Buffer.from([0xc0, 0x0c, 0, type, 0, 1, 0, 0, 0, 0, 0, data.length]);
  return Buffer.concat([head, data]);
}

/** For receiver.example and the names below it, until 2125. Nobody trusts it. */
export const selfSigned = {
  key: `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg/WOf8qhVQEqZ4yRc
2uX1yS/5v055Pt195u9+LNJVrBChRANCAAR7kiQV4DKyYM0xs4Puq4Fyp3yvZ1pv
WLdD89qtbZIBP34hiiNISZvuTawrrHNKV1UgVZTeXFz1SNFJyGLvthkc
-----END PRIVATE KEY-----
`,
  cert: `-----BEGIN CERTIFICATE-----
MIIBiTCCATCgAwIBAgIBATAKBggqhkjOPQQDAjAbMRkwFwYDVQQDDBByZWNlaXZl
ci5leGFtcGxlMCAXDTI0MDEwMTAwMDAwMFoYDzIxMjUwMTAxMDAwMDAwWjAbMRkw
FwYDVQQDDBByZWNlaXZlci5leGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAEe5IkFeAysmDNMbOD7quBcqd8r2dab1i3Q/ParW2SAT9+IYojSEmb7k2sK6xz
SldVIFWU3lxc9UjRSchi77YZHKNjMGEwLwYDVR0RBCgwJoIQcmVjZWl2ZXIuZXhh
bXBsZYISKi5yZWNlaXZlci5leGFtcGxlMA8GA1UdEwEB/wQFMAMBAf8wHQYDVR0O
BBYEFNqQVfewhC9g+9pAbZKH+QSo3VudMAoGCCqGSM49BAMCA0cAMEQCIGMdBR97
voRg2sgoIAHdDWs0wZjbsgZYnAHZqQy4cFvcAiAJiHDnWx1VpHBjIUrRdZgMBWrL
DQWYOm5/5UM2gfUb1Q==
-----END CERTIFICATE-----
`,
};
