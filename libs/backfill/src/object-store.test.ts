import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { S3Client } from '@bradenmacdonald/s3-lite-client';
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFinished, test } from 'vitest';
import { ObjectStore } from './object-store.ts';
import type { Chunk } from './plan.ts';
import { type S3Server, startS3Server } from './s3-server.ts';
import { Trial } from './trial.ts';
import { WorkBucket } from './work-place.ts';

let server: S3Server;
let objects: ObjectStore;
let trial: Trial;

beforeAll(async () => {
  server = await startS3Server(process.env['MILLRACE_VERSITYGW']);
  objects = new ObjectStore(server.options);
});
afterAll(() => server.close());
beforeEach(async () => {
  trial = await Trial.open({ objects });
});
afterEach(() => trial.close());

const name = (key: string) => ({ bucket: server.bucket, key });
const uri = (key: string): string => `s3://${server.bucket}/${key}`;

async function bytesOf(key: string): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(objects.read(name(key))));
}

test('large files go up in parts and come down whole, or from a byte on', async () => {
  const bytes = randomBytes(40 * 1024 * 1024);
  const path = await trial.put('big', bytes);
  await objects.writeFile(name('big/é file+name'), path);
  expect((await bytesOf('big/é file+name')).equals(bytes)).toBe(true);
  const description = await objects.describe(name('big/é file+name'));
  expect(description?.sizeBytes).toBe(bytes.length);
  const rest = await Array.fromAsync(objects.read(name('big/é file+name'), { start: bytes.length - 5, etag: description?.etag ?? '' }));
  expect(Buffer.concat(rest)).toEqual(bytes.subarray(-5));
  expect(await Array.fromAsync(objects.read(name('big/é file+name'), { start: bytes.length }))).toEqual([]);
  await objects.writeText(name('empty'), '');
  expect(await bytesOf('empty')).toHaveLength(0);
});

test('the first write of a record wins; what is not there is told', async () => {
  const wins = await Promise.all(['1', '2', '3', '4'].map((text) => objects.writeFirst(name('records/one'), text)));
  expect(wins.filter(Boolean)).toHaveLength(1);
  expect(await objects.readText(name('records/one'))).toBe(String(wins.indexOf(true) + 1));
  expect(await objects.readText(name('records/two'))).toBeUndefined();
  expect(await objects.describe(name('records/two'))).toBeUndefined();
  await objects.remove(name('records/one'));
  await objects.remove(name('records/one'));
  expect(await objects.list(name('records/'))).toEqual([]);
  await expect(Array.fromAsync(objects.read(name('records/two')))).rejects.toMatchObject({ code: 'storage-unavailable' });
  await expect(objects.list({ bucket: 'other', key: '' })).rejects.toMatchObject({ code: 'storage-unavailable', message: 's3://other/: there is no such object or bucket' });
  await objects.writeText(name('changing'), 'a');
  await expect(Array.fromAsync(objects.read(name('changing'), { etag: 'b' }))).rejects.toMatchObject({ code: 'input-changed' });
});

test('a server that is away for a while is waited for', async () => {
  await objects.writeText(name('waiting'), 'here');
  await server.stop();
  const answer = objects.readText(name('waiting'));
  await server.start();
  expect(await answer).toBe('here');
});

test('a reader that takes its time survives a server that closes every connection behind its answer', async () => {
  const bytes = randomBytes(20 * 1024 * 1024);
  const closed: Promise<unknown>[] = [];
  const hasty = createServer((request, response) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
    const piece = bytes.subarray(Number(from), Number(to) + 1);
    closed.push(once(request.socket, 'close'));
    response.writeHead(206, { 'content-length': piece.length, 'content-range': `bytes ${from}-${to}/${bytes.length}`, etag: '"1"', connection: 'close' }).end(piece);
  });
  hasty.listen(0, '127.0.0.1');
  await once(hasty, 'listening');
  onTestFinished(() => { hasty.close(); });
  const store = new ObjectStore({ ...server.options, endpoint: `http://127.0.0.1:${(hasty.address() as AddressInfo).port}` });
  const read: Uint8Array[] = [];
  for await (const piece of store.read(name('hasty'))) {
    read.push(piece);
    await closed.at(-1);
  }
  expect(Buffer.concat(read).equals(bytes)).toBe(true);
});

test('an object that is stored with a Content-Encoding is refused', async () => {
  const client = new S3Client({ endPoint: server.options.endpoint, region: 'us-east-1', accessKey: 'millrace', secretKey: 'millrace-secret' });
  await client.putObject('encoded.csv', new Uint8Array(gzipSync('a,b\n1,2\n')), { bucketName: server.bucket, metadata: { 'Content-Encoding': 'gzip' } });
  await expect(bytesOf('encoded.csv')).rejects.toMatchObject({ code: 'unreadable-input', message: 's3://rows/encoded.csv is stored with Content-Encoding gzip; store it without, and compressed text with a name that ends in .gz' });
});

test('a backfill from a bucket to a bucket, shared by two machines through a bucket', async () => {
  const numbers = (from: number): string => Array.from({ length: 20 }, (_, index) => `${from + index},1\n`).join('');
  await objects.writeFile(name('in/a.csv.gz'), await trial.put('a', gzipSync(`a,b\n${numbers(0)}`)));
  await objects.writeText(name('in/b.csv'), `a,b\n${numbers(20)}x,1\n`);
  await objects.writeText(name('in/notes.txt'), 'no rows');
  const other = await Trial.open({ objects });
  try {
    for (const machine of [trial, other]) machine.work = new WorkBucket({ objects, bucket: server.bucket, prefix: 'work/bf-1', scratchFolder: machine.path('scratch') });
    const plan = await trial.check({ input: { uri: uri('in/*.csv*') }, output: { uri: uri('out/scores.csv') } }, { limits: { rows: 6 } });
    for await (const chunk of trial.chunks(plan)) {
      await other.runChunk(plan, chunk);
      if (chunk.index === 2) break;
    }
    for await (const chunk of other.chunks(plan)) await trial.runChunk(plan, chunk);
    const manifest = await other.assemble(plan);
    expect(manifest).toMatchObject({ rows: { input: 41, output: 40, failed: 1 }, output: { uri: uri('out/scores.csv') } });
    const lines = (await bytesOf('out/scores.csv')).toString().trimEnd().split('\n');
    expect(lines.slice(1).map((line) => line.split(',').slice(0, 2))).toEqual(Array.from({ length: 40 }, (_, index) => [String(index + 1), `${index + 1}.0`]));
    expect(JSON.parse((await bytesOf('out/scores.manifest.json')).toString())).toEqual(manifest);
    expect(JSON.parse((await bytesOf('out/scores.errors.ndjson')).toString())).toMatchObject({ row: 41, file: uri('in/b.csv'), line: 22, original: 'x,1' });
    await trial.work.clear();
    expect((await objects.list(name(''))).map(({ key }) => key).filter((key) => key.startsWith('work/'))).toEqual([]);
  } finally {
    await other.close();
  }
});

test('Parquet from a bucket is fetched once for all its chunks', async () => {
  const path = await trial.parquet('in.parquet', 'SELECT i::FLOAT AS a, 1::FLOAT AS b FROM range(5000) t(i)');
  await objects.writeFile(name('parquet/in.parquet'), path);
  const plan = await trial.check({ input: { uri: uri('parquet/in.parquet') }, output: { uri: trial.path('out.parquet') } }, { limits: { rows: 500 } });
  const chunks = await Array.fromAsync(trial.chunks(plan));
  expect(chunks).toHaveLength(10);
  await Promise.all(chunks.map((chunk) => trial.runChunk(plan, chunk)));
  expect((await readdir(trial.path('scratch'))).filter((file) => file.endsWith('.partial'))).toHaveLength(1);
  await trial.assemble(plan);
  expect(await trial.query(`SELECT count(*), bool_and(sum = "row") FROM '${trial.path('out.parquet')}'`)).toEqual([['5000', true]]);
  await objects.writeFile(name('parquet/in.parquet'), await trial.put('other', await readFile(path).then((bytes) => bytes.subarray(1))));
  await expect(Array.fromAsync(trial.chunks(plan))).rejects.toMatchObject({ code: 'input-changed' });
  await trial.inputs.close();
  await expect(trial.open(plan, chunks[0] as Chunk)).rejects.toMatchObject({ code: 'input-changed' });
});
