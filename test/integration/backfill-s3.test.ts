// A backfill from a bucket to a bucket, by the real processes, with a bucket for their work folder too: a real S3 server, over its real protocol.
import { mkdtemp, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ObjectStore } from '@millrace/backfill';
import type { Backfill } from '@millrace/protocol';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type S3Server, startS3Server } from '../../libs/backfill/src/s3-server.ts';
import { runDirect } from './direct.ts';
import { bundledModels, send, startTestSystem, type TestSystem, until } from './rig.ts';

let server: S3Server;
let store: ObjectStore;
let system: TestSystem;

beforeAll(async () => {
  server = await startS3Server(process.env['MILLRACE_VERSITYGW']);
  store = new ObjectStore(server.options);
  const { endpoint, region, accessKey = '', secretKey = '' } = server.options;
  const at = (folder: string) => `s3://${server.bucket}/${folder}`;
  system = await startTestSystem({
    workers: 2,
    env: {
      AWS_ENDPOINT_URL_S3: endpoint, AWS_REGION: region, AWS_ACCESS_KEY_ID: accessKey, AWS_SECRET_ACCESS_KEY: secretKey,
      MILLRACE_BACKFILL_WORK: at('work'), MILLRACE_BACKFILL_INPUTS: at('in'), MILLRACE_BACKFILL_OUTPUTS: at('out'), MILLRACE_BACKFILL_THREADS: '1',
    },
  });
});
afterAll(async () => {
  await system.stop();
  await server.close();
});

async function put(key: string, text: string): Promise<void> {
  const file = path.join(await mkdtemp(path.join(tmpdir(), 'millrace-test-')), 'object');
  await writeFile(file, text);
  await store.writeFile({ bucket: server.bucket, key }, file);
}

const create = (input: string, output: string) => send(system, 'POST', '/api/v1/backfills', {
  model: 'iris', input: { uri: `s3://${server.bucket}/${input}` }, output: { uri: `s3://${server.bucket}/${output}` }, chunk_rows: 50,
});

test('files of a bucket, by a glob, become one file of a bucket, in order', async () => {
  const flowers = (from: number) => Array.from({ length: 120 }, (_, row) => [5 + (from + row) % 10 / 10, 3, 1 + (from + row) % 50 / 10, 0.2]);
  for (const part of [0, 1]) await put(`in/part-${part}.csv`, `a,b,c,d\n${flowers(120 * part).map((row) => row.join()).join('\n')}\n`);
  const { status, body } = await create('in/part-*.csv', 'out/kinds.ndjson');
  expect(status).toBe(201);
  const ended = await until(async () => {
    const backfill = (await send(system, 'GET', body.urls.get)).body as Backfill;
    return ['completed', 'failed'].includes(backfill.status) && backfill;
  }, 'the end', 60);
  expect(ended).toMatchObject({ status: 'completed', rows: { total: 240, done: 240, failed: 0 }, error: null });
  const lines = (await store.readText({ bucket: server.bucket, key: 'out/kinds.ndjson' }))?.trim().split('\n').map((line) => JSON.parse(line) as { row: number; label: number });
  expect(lines?.map(({ row }) => row)).toEqual(Array.from({ length: 240 }, (_, row) => row + 1));
  const { body: model } = await send(system, 'GET', '/api/v1/models/iris');
  const expected = await runDirect(bundledModels, 'iris', model.versions[0], { features: [0, 1].flatMap((part) => flowers(120 * part)) });
  expect(lines?.map(({ label }) => label)).toEqual(expected['label']);
  // Once it is completed, the work folder is emptied.
  await until(async () => (await store.list({ bucket: server.bucket, key: 'work/' })).length === 0, 'an empty work folder');
  expect((await store.list({ bucket: server.bucket, key: 'out/' })).map(({ key }) => key).toSorted()).toEqual(['out/kinds.manifest.json', 'out/kinds.ndjson']);
});

test('another prefix of the bucket is outside of the places', async () => {
  expect((await create('work/x.csv', 'out/x.csv')).body).toMatchObject({ status: 403, errors: [{ pointer: '#/input/uri' }] });
});
