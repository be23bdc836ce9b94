import { type IncomingHttpHeaders, type IncomingMessage } from 'node:http';
import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { text } from 'node:stream/consumers';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { Sender, type SenderOptions } from './attempt.ts';
import { selfSigned, startHttp, startNameServer, startRaw, startSaying, startTls } from './hostile-servers.ts';
import { type Resolve, TargetPolicy } from './target.ts';

function senderWith({ resolve, ...limits }: Partial<SenderOptions> & { resolve?: Resolve } = {}): Sender {
  const sender = new Sender({ policy: new TargetPolicy({ allowedNetworks: ['127.0.0.0/8'], resolve }), ...limits });
  onTestFinished(() => sender.close());
  return sender;
}

const post = (sender: Sender, url: string, signal?: AbortSignal) => sender.attempt({ url, headers: { 'webhook-id': 'evt_1' }, body: '{"a":"ü"}', signal });
const answered = (changes: object) => ({ kind: 'answered', status: 200, excerpt: '', durationMs: expect.any(Number), ...changes });
const excerptOf = async (says: string | Buffer) => {
  const port = await startHttp((_, reply) => { reply.end(says); });
  const result = await post(senderWith(), `http://127.0.0.1:${port}/`);
  return result.kind === 'answered' ? result.excerpt : result.reason;
};

test('posts the body with its headers to the path and query, and tells what came back', async () => {
  const asked: { method?: string | undefined; url?: string | undefined; headers: IncomingHttpHeaders; body: string }[] = [];
  const port = await startHttp((request, reply) => {
    const note = async ({ method, url, headers }: IncomingMessage) => {
      asked.push({ method, url, headers, body: await text(request) });
      reply.writeHead(202, { 'retry-after': '3' }).end('thanks');
    };
    void note(request);
  });
  expect(await post(senderWith(), `http://127.0.0.1:${port}/hook?a=b`)).toEqual(answered({ status: 202, excerpt: 'thanks', retryAfterMs: 3000 }));
  expect(asked).toEqual([{
    method: 'POST', url: '/hook?a=b', body: '{"a":"ü"}',
    headers: { 'host': `127.0.0.1:${port}`, 'connection': 'keep-alive', 'webhook-id': 'evt_1', 'content-length': '10' },
  }]);
});

test.each([204, 304, 404, 410, 503])('an answer without a body: %i', async (status) => {
  const port = await startHttp((_, reply) => { reply.writeHead(status).end(); });
  expect(await post(senderWith(), `http://127.0.0.1:${port}/`)).toEqual(answered({ status }));
});

test('a host is called by its name, over TLS, where its certificate is trusted', async () => {
  const before = getCACertificates('default');
  setDefaultCACertificates([...before, selfSigned.cert]);
  onTestFinished(() => setDefaultCACertificates(before));
  const resolve = await startNameServer({ 'receiver.example': [['127.0.0.1']], 'other.example': [['127.0.0.1']] });
  const port = await startTls();
  expect(await post(senderWith({ resolve }), `https://receiver.example:${port}/`)).toEqual(answered({ excerpt: 'ok' }));
  // The certificate is that of another name.
  expect(await post(senderWith({ resolve }), `https://other.example:${port}/`)).toMatchObject({ kind: 'failed', reason: 'the TLS certificate is not valid' });
});

test('the environment cannot turn the check of certificates off', async () => {
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
  onTestFinished(() => { vi.unstubAllEnvs(); });
  expect(await post(senderWith(), `https://127.0.0.1:${await startTls()}/`)).toMatchObject({ kind: 'failed', reason: 'the TLS certificate is not valid' });
});

test('of several addresses the one that answers is used', async () => {
  const port = await startHttp((_, reply) => { reply.end('ok'); });
  const resolve = await startNameServer({ 'hook.example': [['127.0.0.2', '127.0.0.3', '127.0.0.1']] });
  expect(await post(senderWith({ resolve }), `http://hook.example:${port}/`)).toEqual(answered({ excerpt: 'ok' }));
});

test('interim answers are passed over', async () => {
  const { port } = await startSaying('HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  expect(await post(senderWith(), `http://127.0.0.1:${port}/`)).toEqual(answered({ excerpt: 'ok' }));
});

describe('the excerpt', () => {
  test('is the first KiB, and never half a character', async () => {
    expect(await excerptOf('a'.repeat(60_000))).toBe('a'.repeat(1024));
    expect(await excerptOf(`a${'ü'.repeat(1000)}`)).toBe(`a${'ü'.repeat(511)}`);
    expect(await excerptOf('ü')).toBe('ü');
  });

  test('is printable', async () => {
    expect(await excerptOf('a\tb\nc')).toBe('a\tb\nc');
    expect(await excerptOf('\u001B[2Jgone\u0007\0\u009B\u202E\u200B\uFEFF')).toBe('\uFFFD[2Jgone\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD\uFFFD');
    expect(await excerptOf(Buffer.from([0xff, 0xfe, 0x61]))).toBe('\uFFFD\uFFFDa');
  });
});

describe('connections', () => {
  test('are kept for the next attempt', async () => {
    const sockets = new Set<unknown>();
    const port = await startHttp((request, reply) => {
      sockets.add(request.socket);
      reply.end();
    });
    const sender = senderWith();
    for (let count = 0; count < 20; count++) expect(await post(sender, `http://127.0.0.1:${port}/`)).toMatchObject({ status: 200 });
    // Two take turns: undici looks at one for stray bytes before it uses it again.
    expect(sockets.size).toBeLessThanOrEqual(2);
  });

  test('are closed after use where too many are kept', async () => {
    const sender = senderWith({ maxKeptSockets: 2 });
    const asked: IncomingMessage[] = [];
    const ports = await Promise.all(Array.from({ length: 5 }, () => startHttp((request, reply) => {
      asked.push(request);
      reply.end();
    })));
    for (const port of ports) await post(sender, `http://127.0.0.1:${port}/`);
    expect(asked.map(({ headers }) => headers.connection)).toEqual(['keep-alive', 'keep-alive', 'close', 'close', 'close']);
    await vi.waitFor(() => expect(asked.filter(({ socket }) => !socket.destroyed)).toHaveLength(2));
  });

  test('that fail do not count as kept', async () => {
    const sender = senderWith({ maxKeptSockets: 1 });
    const { port: broken } = await startRaw((socket) => socket.resetAndDestroy());
    for (let count = 0; count < 5; count++) expect(await post(sender, `http://127.0.0.1:${broken}/`)).toMatchObject({ kind: 'failed' });
    const port = await startHttp((request, reply) => { reply.end(request.headers.connection); });
    await vi.waitFor(async () => expect(await post(sender, `http://127.0.0.1:${port}/`)).toMatchObject({ excerpt: 'keep-alive' }));
  });

  test('are closed with the sender, after the attempts that run', async () => {
    const asked = Promise.withResolvers<() => void>();
    const port = await startHttp((_, reply) => asked.resolve(() => reply.end('ok')));
    const sender = senderWith();
    const running = post(sender, `http://127.0.0.1:${port}/`);
    const answer = await asked.promise;
    const closing = sender.close();
    answer();
    expect(await running).toMatchObject({ status: 200 });
    await closing;
    await sender.close();
    await expect(post(sender, `http://127.0.0.1:${port}/`)).rejects.toThrow('the sender is closed');
  });
});

describe('a signal', () => {
  test('ends an attempt that waits, with its reason, and the connection', async () => {
    const { port, sockets } = await startSaying('');
    const abort = new AbortController();
    const running = post(senderWith(), `http://127.0.0.1:${port}/`, abort.signal);
    await vi.waitFor(() => expect(sockets[0]?.bytesRead).toBeGreaterThan(0));
    abort.abort(new Error('stop'));
    await expect(running).rejects.toThrow('stop');
    await vi.waitFor(() => expect(sockets[0]?.destroyed).toBe(true));
  });

  test('ends an attempt that has no connection yet; nothing is sent later', async () => {
    const found = Promise.withResolvers<undefined>();
    const asked: string[] = [];
    const port = await startHttp((request, reply) => {
      asked.push(request.url ?? '');
      reply.end();
    });
    const sender = senderWith({ resolve: () => found.promise.then(() => [{ address: '127.0.0.1', family: 4 }]) });
    const abort = new AbortController();
    const running = post(sender, `http://hook.example:${port}/aborted`, abort.signal);
    abort.abort(new Error('stop'));
    await expect(running).rejects.toThrow('stop');
    found.resolve(undefined);
    expect(await post(sender, `http://hook.example:${port}/next`)).toMatchObject({ status: 200 });
    await sender.close();
    expect(asked).toEqual(['/next']);
  });

  test('that has been given before lets nothing start', async () => {
    await expect(post(senderWith(), 'http://127.0.0.1:1/', AbortSignal.abort(new Error('stop')))).rejects.toThrow('stop');
  });

  test('may serve many attempts at once, and after an attempt changes nothing', async () => {
    const port = await startHttp((_, reply) => { reply.end('ok'); });
    const sender = senderWith();
    const warned = vi.fn<(warning: Error) => void>();
    process.on('warning', warned);
    onTestFinished(() => { process.off('warning', warned); });
    const abort = new AbortController();
    const results = await Promise.all(Array.from({ length: 50 }, () => post(sender, `http://127.0.0.1:${port}/`, abort.signal)));
    abort.abort();
    expect(new Set(results.map((result) => result.kind))).toEqual(new Set(['answered']));
    expect(await post(sender, `http://127.0.0.1:${port}/`)).toMatchObject({ status: 200 });
    expect(warned).not.toHaveBeenCalled();
  });
});

test('a header that cannot be sent is the caller’s fault', async () => {
  await expect(senderWith().attempt({ url: 'http://127.0.0.1:1/', headers: { 'x': 'a\r\nb' }, body: '' })).rejects.toThrow('invalid x header');
});
