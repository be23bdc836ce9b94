// What a body may be: compressed, but not without bounds; JSON, but not of any depth and not with every name.
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { scopes } from '@millrace/protocol';
import { connect, KeyStore } from '@millrace/queue';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Answer, send, startTestSystem, type TestSystem, until } from './rig.ts';

const keyBytes = 2000;
let system: TestSystem;
/** A key that may do everything, and one that may send little at once. */
let key: string;
let smallKey: string;

beforeAll(async () => {
  system = await startTestSystem();
  const redis = connect(system, 'worker', () => {});
  const store = new KeyStore(redis);
  const make = async (limits: object) => (await store.create({ tenant: 'a', name: undefined, scopes, expiresAt: undefined, limits }, Date.now())).text;
  [key, smallKey] = [await make({}), await make({ bodyBytes: keyBytes })];
  redis.disconnect();
  await until(async () => (await send(system, 'GET', '/api/v1/models')).status === 401, 'the keys are known');
});
afterAll(() => system.stop());

const iris = { model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]] };
const text = JSON.stringify(iris);
/** The same prediction, in so many bytes. */
const padded = (bytes: number) => text.padEnd(bytes);

async function post(body: string | Uint8Array<ArrayBuffer> | ReadableStream, headers: Record<string, string> = {}, apiKey = key): Promise<Pick<Answer, 'status' | 'headers' | 'body'>> {
  const init: RequestInit & { duplex?: 'half' } = {
    method: 'POST', body, headers: { 'content-type': 'application/json', prefer: 'wait=30', authorization: `Bearer ${apiKey}`, ...headers },
    ...(body instanceof ReadableStream && { duplex: 'half' }),
  };
  const response = await fetch(`${system.url}/api/v1/predictions`, init);
  return { status: response.status, headers: response.headers, body: await response.json() };
}

/** Sent in chunks, so that there is no Content-Length. */
const chunked = (body: string | Uint8Array<ArrayBuffer>) => new Blob([body]).stream();

test.each([
  ['gzip', gzipSync], ['br', brotliCompressSync], ['deflate', deflateSync], ['zstd', zstdCompressSync], ['GZIP', gzipSync],
])('a body may come as %s, with and without its length', async (encoding, compress) => {
  const bytes = new Uint8Array(compress(text));
  for (const body of [bytes, chunked(bytes)]) {
    expect(await post(body, { 'content-encoding': encoding })).toMatchObject({ status: 200, body: { status: 'succeeded', labels: ['setosa'] } });
  }
});

const zeros = Buffer.alloc(64 * 1024 * 1024, '0');
test.each([['gzip', gzipSync], ['br', brotliCompressSync], ['deflate', deflateSync], ['zstd', zstdCompressSync]])('a bomb of %s is refused while it grows', async (encoding, compress) => {
  const bomb = new Uint8Array(compress(zeros));
  for (const body of [bomb, chunked(bomb)]) {
    const answer = await post(body, { 'content-encoding': encoding });
    expect([answer.status, answer.body]).toEqual([413, expect.objectContaining({ type: '/problems/payload-too-large', detail: expect.stringContaining('100 times') })]);
  }
});

test('a body that is too large only when it is decompressed is refused', async () => {
  const digits = Buffer.from(Array.from({ length: 18 * 1024 * 1024 }, (_, index) => 48 + ((index * 7919) ^ (index >> 7)) % 10));
  const compressed = new Uint8Array(gzipSync(digits, { level: 1 }));
  expect(compressed.length).toBeLessThan(16 * 1024 * 1024);
  const answer = await post(compressed, { 'content-encoding': 'gzip' });
  expect([answer.status, answer.body.detail]).toEqual([413, 'The body is larger than 16777216 bytes']);
});

test('a key may hold bodies to fewer bytes, however they come', async () => {
  const gzip = { 'content-encoding': 'gzip' };
  const within = padded(keyBytes);
  for (const [body, headers] of [[within, {}], [chunked(within), {}], [new Uint8Array(gzipSync(within)), gzip]] as const) expect((await post(body, headers, smallKey)).status).toBe(200);
  const beyond = padded(keyBytes + 1);
  for (const [body, headers] of [[beyond, {}], [chunked(beyond), {}], [new Uint8Array(gzipSync(beyond)), gzip]] as const) {
    const answer = await post(body, headers, smallKey);
    expect([answer.status, answer.body.detail]).toEqual([413, `The body is larger than ${keyBytes} bytes`]);
  }
  expect((await post(beyond)).status).toBe(200);
});

test.each([
  ['an unknown encoding', 'compress', Buffer.from(text)],
  ['two encodings', 'gzip, br', gzipSync(brotliCompressSync(text))],
])('%s is refused with those that are known', async (_name, encoding, body) => {
  const answer = await post(new Uint8Array(body), { 'content-encoding': encoding });
  expect([answer.status, answer.body.type, answer.headers.get('accept-encoding')]).toEqual([415, '/problems/unsupported-media-type', 'gzip, br, deflate, zstd']);
});

test.each([
  ['a body that is not what it says', 'gzip', Buffer.from(text)],
  ['half a body', 'gzip', gzipSync(text).subarray(0, 30)],
  ['a zstd body that wants 128 MiB of window', 'zstd', Buffer.from('28b52ffd0088010000', 'hex')],
])('%s is refused', async (_name, encoding, body) => {
  const answer = await post(new Uint8Array(body), { 'content-encoding': encoding });
  expect([answer.status, answer.body.type]).toEqual([400, '/problems/malformed-request']);
});

test('a broken body that nobody reads breaks nothing', async () => {
  expect((await post(text, { 'content-encoding': 'gzip', 'content-type': 'text/plain' })).status).toBe(415);
  const nowhere = await send(system, 'POST', '/nowhere', text, { 'content-encoding': 'gzip' });
  expect([nowhere.status, nowhere.body.type]).toEqual([404, '/problems/not-found']);
  expect((await send(system, 'GET', '/healthz', undefined, { 'content-encoding': 'gzip' })).status).toBe(200);
  expect((await post(text)).status).toBe(200);
});

test.each([
  ['100 levels', `{"model":"iris","inputs":${'['.repeat(99)}${']'.repeat(99)}}`, 422],
  ['101 levels', `{"model":"iris","inputs":${'['.repeat(100)}${']'.repeat(100)}}`, 400],
  ['a million levels', '['.repeat(1_000_000), 400],
  ['__proto__', '{"model":"iris","inputs":[[1,2,3,4]],"__proto__":{"admin":true}}', 400],
  ['__proto__ further in', '{"model":"iris","inputs":[[1,2,3,4]],"metadata":{"a":"b","__proto__":{"admin":true}}}', 400],
  ['__proto__ in escapes', String.raw`{"model":"iris","inputs":[[1,2,3,4]],"\u005f_proto\u005f_":{"admin":true}}`, 400],
  ['constructor.prototype', '{"model":"iris","inputs":[[1,2,3,4]],"constructor":{"prototype":{"admin":true}}}', 400],
  ['constructor.prototype further in', '{"model":"iris","inputs":[[1,2,3,4]],"parameters":{"constructor":{"prototype":{"admin":true}}}}', 400],
  ['a constructor in metadata', '{"model":"iris","inputs":[[5.1,3.5,1.4,0.2]],"metadata":{"constructor":"Bob","toString":"x"}}', 200],
])('JSON with %s', async (_name, body, status) => {
  expect((await post(body)).status).toBe(status);
  expect((await post(new Uint8Array(gzipSync(body)), { 'content-encoding': 'gzip' })).status).toBe(body.length > 100_000 ? 413 : status);
});
