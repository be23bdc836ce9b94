// The corpus of receivers that misbehave, each under its name: whatever they do, an attempt ends, and its connection with it.
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { type AttemptResult, Sender, type SenderOptions } from './attempt.ts';
import { listCases } from './hostile-cases.ts';
import { startAcceptingNothing, startHttp, startRaw, startSaying, startTls } from './hostile-servers.ts';
import { verdictOf } from './schedule.ts';
import { TargetPolicy } from './target.ts';

listCases();

/** Long enough for an answer on loopback, short enough to wait for where none comes. */
const shortMs = 300;
/** Longer than a test may take: what ends without it has not been ended by the clock. */
const longMs = 60_000;

function senderWith(limits: Partial<SenderOptions> = {}): Sender {
  const sender = new Sender({ policy: new TargetPolicy({ allowedNetworks: ['127.0.0.0/8'] }), timeoutMs: longMs, connectTimeoutMs: longMs, ...limits });
  onTestFinished(() => sender.close());
  return sender;
}

function attempt(port: number, { scheme = 'http', ...limits }: Partial<SenderOptions> & { scheme?: string } = {}): Promise<AttemptResult> {
  return senderWith(limits).attempt({ url: `${scheme}://127.0.0.1:${port}/hook`, headers: { 'webhook-id': 'evt_1' }, body: '{}' });
}

/** The attempt's connection has ended, and none came after it: connections are accepted in their order, and the last one is the test's. */
async function expectOneConnection(port: number, sockets: readonly Socket[]): Promise<void> {
  await vi.waitFor(() => expect(sockets[0]?.destroyed).toBe(true));
  const last = connect(port, '127.0.0.1');
  onTestFinished(() => { last.destroy(); });
  await once(last, 'connect');
  await vi.waitFor(() => expect(sockets.at(-1)?.remotePort).toBe(last.localPort));
  expect(sockets).toHaveLength(2);
}

const failed = (reason: string) => ({ kind: 'failed', reason, durationMs: expect.any(Number) });
const answered = (status: number, excerpt: unknown = expect.any(String)) => ({ kind: 'answered', status, excerpt, durationMs: expect.any(Number) });

/** Writes the same again and again, as fast as it is read. */
function withoutEnd(chunk: string): (socket: Socket) => void {
  return (socket) => {
    const fill = () => { while (!socket.destroyed && socket.write(chunk)); };
    socket.on('drain', fill);
    fill();
  };
}

/** Writes a byte of the text now and then. */
function dripping(text: string): (socket: Socket) => void {
  return (socket) => {
    let at = 0;
    const drip = setInterval(() => socket.write(text[at++ % text.length] ?? ''), 20);
    socket.once('close', () => clearInterval(drip));
  };
}

const none = () => {};
const head = 'HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n';
const close = (socket: Socket) => socket.end();
const reset = (socket: Socket) => socket.resetAndDestroy();

describe('what never ends', () => {
  test.each([
    ['silence', '', none, failed('timed out while waiting for an answer')],
    ['half a status line', 'HTTP/1.1 20', none, failed('timed out while waiting for an answer')],
    ['headers, byte by byte', `${head}x: `, dripping('a'), failed('timed out while waiting for an answer')],
    ['interim answers now and then', '', dripping('HTTP/1.1 103 Early Hints\r\n\r\n'), failed('timed out while waiting for an answer')],
    ['a body that does not come', `${head}content-length: 2\r\n\r\n`, none, answered(200, '')],
    ['a body, byte by byte', `${head}content-length: 100000\r\n\r\n`, dripping('a'), answered(200, expect.stringMatching(/^a*$/))],
    ['chunks, byte by byte', `${head}transfer-encoding: chunked\r\n\r\n`, dripping('1\r\na\r\n'), answered(200, expect.stringMatching(/^a*$/))],
    ['the extension of a chunk', `${head}transfer-encoding: chunked\r\n\r\n1;`, withoutEnd('a'.repeat(16_384)), answered(200, '')],
  ])('%s', async (_, says, then, result) => {
    const { port, sockets } = await startSaying(says, then);
    expect(await attempt(port, { timeoutMs: shortMs })).toEqual(result);
    await expectOneConnection(port, sockets);
  });
});

describe('too much', () => {
  test.each([
    ['a body without end', `${head}\r\n`, withoutEnd('a'.repeat(16_384)), answered(200, 'a'.repeat(1024))],
    ['a body of an exabyte', `${head}content-length: 1000000000000000000\r\n\r\n`, withoutEnd('a'.repeat(16_384)), answered(200, 'a'.repeat(1024))],
    ['chunks without end', `${head}transfer-encoding: chunked\r\n\r\n`, withoutEnd('1\r\na\r\n'.repeat(1000)), answered(200, 'a'.repeat(1024))],
    ['a body without end of an answer that says no', `HTTP/1.1 500 No\r\n\r\n`, withoutEnd('a'.repeat(16_384)), answered(500, 'a'.repeat(1024))],
    ['headers without end', head, withoutEnd('x: a\r\n'.repeat(1000)), failed('the answer has too large headers')],
    ['one header without end', `${head}x: `, withoutEnd('a'.repeat(16_384)), failed('the answer has too large headers')],
    ['the name of a header without end', head, withoutEnd('a'.repeat(16_384)), failed('the answer has too large headers')],
    ['trailers without end', `${head}transfer-encoding: chunked\r\n\r\n0\r\n`, withoutEnd('x: a\r\n'.repeat(1000)), answered(200, '')],
    ['interim answers without end', '', withoutEnd('HTTP/1.1 103 Early Hints\r\n\r\n'.repeat(100)), failed('only interim answers came')],
  ])('%s', async (_, says, then, result) => {
    const { port, sockets } = await startSaying(says, then);
    expect(await attempt(port)).toEqual(result);
    await expectOneConnection(port, sockets);
  });

  test('a gzip bomb is not decoded', async () => {
    const bomb = gzipSync(Buffer.alloc(10_000_000));
    const port = await startHttp((_, reply) => { reply.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb); });
    const result = await attempt(port);
    expect(result).toEqual(answered(200));
    expect(result.kind === 'answered' && result.excerpt.length).toBeLessThanOrEqual(1024);
  });
});

describe('what is no answer', () => {
  test.each([
    ['the greeting of SSH', 'SSH-2.0-OpenSSH_9.6\r\n', none, failed('the answer is not HTTP')],
    ['an error of Redis', "-ERR unknown command 'POST'\r\n", none, failed('the answer is not HTTP')],
    ['bytes', '\0\u0001\u0002\u0003'.repeat(100), none, failed('the answer is not HTTP')],
    ['a body without a head', '<html>', close, failed('the answer is not HTTP')],
    ['a version that does not exist', 'HTTP/9.9 200 OK\r\n\r\n', none, failed('the answer is not HTTP')],
    ['a status of two digits', 'HTTP/1.1 20 OK\r\n\r\n', none, failed('the answer is not HTTP')],
    ['a header with a null byte', `${head}x: \0\r\n\r\n`, none, failed('the answer is not HTTP')],
    ['two lengths', `${head}content-length: 1\r\ncontent-length: 2\r\n\r\nab`, none, failed('the answer is not HTTP')],
    ['a length and chunks', `${head}content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n`, none, failed('the answer is not HTTP')],
    ['a length that is no number', `${head}content-length: 0x10\r\n\r\n`, none, failed('the answer is not HTTP')],
    ['nothing', '', close, failed('the connection was closed before an answer came')],
    ['half a head', head, close, failed('the connection was closed before an answer came')],
    ['a reset', '', reset, failed('the connection was closed before an answer came')],
    ['another protocol', 'HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n', none, failed('the connection was closed before an answer came')],
  ])('%s', async (_, says, then, result) => {
    const { port } = await startSaying(says, then);
    expect(await attempt(port)).toEqual(result);
  });
});

describe('an answer that breaks off is an answer', () => {
  test.each([
    ['a reset within the body', `${head}content-length: 100\r\n\r\nab`, reset],
    ['an end within the body', `${head}content-length: 100\r\n\r\nab`, close],
    ['an end within the chunks', `${head}transfer-encoding: chunked\r\n\r\n2\r\nab\r\n`, close],
    ['a chunk of a length that is none', `${head}transfer-encoding: chunked\r\n\r\n2\r\nab\r\nxyz\r\n`, none],
    ['a chunk beyond 64 bits', `${head}transfer-encoding: chunked\r\n\r\n2\r\nab\r\nfffffffffffffffffffff\r\n`, none],
  ])('%s', async (_, says, then) => {
    const { port } = await startSaying(says, (socket) => setImmediate(then, socket));
    const result = await attempt(port);
    expect(result).toEqual(answered(200));
    expect(['', 'ab']).toContain(result.kind === 'answered' && result.excerpt);
  });
});

describe('no connection', () => {
  test('a closed port', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => { server.close(resolve); });
    expect(await attempt(port)).toEqual(failed('the connection was refused'));
  });

  test('a port that accepts nothing', async () => {
    expect(await attempt(await startAcceptingNothing(), { connectTimeoutMs: shortMs })).toEqual(failed('timed out while connecting'));
  });

  test('a port that accepts nothing, where the whole time is over first', async () => {
    expect(await attempt(await startAcceptingNothing(), { connectTimeoutMs: 2 * shortMs, timeoutMs: shortMs })).toEqual(failed('timed out while connecting'));
  });

  test('TLS that nobody has signed', async () => {
    expect(await attempt(await startTls(), { scheme: 'https' })).toEqual(failed('the TLS certificate is not valid'));
  });

  test('TLS to a port that speaks HTTP', async () => {
    const port = await startHttp((_, reply) => { reply.end(); });
    expect(await attempt(port, { scheme: 'https' })).toEqual(failed('the TLS handshake failed'));
  });

  test('TLS to a port that speaks nonsense', async () => {
    const { port } = await startSaying('nonsense'.repeat(10));
    expect(await attempt(port, { scheme: 'https' })).toEqual(failed('the TLS handshake failed'));
  });

  test('TLS to a port that says nothing', async () => {
    const { port, sockets } = await startRaw((socket) => socket.resume());
    expect(await attempt(port, { scheme: 'https', connectTimeoutMs: shortMs })).toEqual(failed('timed out while connecting'));
    await expectOneConnection(port, sockets);
  });

  test('TLS to a port that closes', async () => {
    const { port } = await startRaw(close);
    expect(await attempt(port, { scheme: 'https' })).toEqual(failed('the connection was closed before an answer came'));
  });

  test('HTTP to a port that speaks TLS', async () => {
    expect(await attempt(await startTls())).toMatchObject({ kind: 'failed' });
  });

  test('a name server that does not answer', async () => {
    const policy = new TargetPolicy({ allowedNetworks: [], resolve: () => new Promise(() => {}) });
    const sender = new Sender({ policy, connectTimeoutMs: shortMs, timeoutMs: longMs });
    expect(await sender.attempt({ url: 'https://hook.example.com/', headers: {}, body: '' })).toEqual(failed('timed out while connecting'));
  });
});

describe('an answer that would lead elsewhere', () => {
  test.each([301, 302, 303, 307, 308])('a redirect %i is not followed', async (status) => {
    let called = 0;
    const inside = await startHttp((_, reply) => {
      called++;
      reply.end();
    });
    const port = await startHttp((_, reply) => { reply.writeHead(status, { location: `http://127.0.0.1:${inside}/` }).end('moved'); });
    const result = await attempt(port);
    expect(result).toEqual(answered(status, 'moved'));
    expect([verdictOf(result), called]).toEqual(['retry', 0]);
  });

  test('a proxy of the environment is not used', async () => {
    let proxied = 0;
    const proxy = await startHttp((_, reply) => {
      proxied++;
      reply.end();
    });
    const port = await startHttp((_, reply) => { reply.end('direct'); });
    for (const name of ['HTTP_PROXY', 'http_proxy', 'HTTPS_PROXY', 'ALL_PROXY', 'NODE_USE_ENV_PROXY']) vi.stubEnv(name, name.startsWith('NODE') ? '1' : `http://127.0.0.1:${proxy}`);
    onTestFinished(() => { vi.unstubAllEnvs(); });
    expect(await attempt(port)).toEqual(answered(200, 'direct'));
    expect(proxied).toBe(0);
  });

  test('an answer to a question that was not asked is not taken for the next one’s', async () => {
    const { port, sockets } = await startSaying(`${head}content-length: 2\r\n\r\nok`.concat('HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n'));
    const sender = senderWith();
    for (let count = 1; count <= 3; count++) {
      expect(await sender.attempt({ url: `http://127.0.0.1:${port}/`, headers: {}, body: '' })).toEqual(answered(200, 'ok'));
      expect(sockets).toHaveLength(count);
    }
  });
});
