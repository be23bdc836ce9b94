// Backfills end to end: a file in, a file out, by the processes that run in production.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { backfill, type BackfillRig, bulkRows, ends, pin, read, startBackfills, write } from './backfill-rig.ts';
import { runDirect } from './direct.ts';

let rig: BackfillRig;
beforeAll(async () => { rig = await startBackfills(); });
afterAll(() => rig.stop());

/** Measurements of flowers, about as they come. */
const flowers = (count: number) => Array.from({ length: count }, (_, row) => [4 + row % 40 / 10, 2 + row % 25 / 10, 1 + row % 60 / 10, 0.1 + row % 24 / 10]);

test('a CSV becomes a CSV with the outputs of session.run, in order, with ids and carried columns', async () => {
  const rows = flowers(2500);
  await write(rig, 'flowers.csv', `id,a,b,c,d,note\n${rows.map((row, index) => `f${index},${row.join()},"n, ${index}"`).join('\n')}\n`);
  const id = await backfill(rig, 'iris', { input: 'flowers.csv', output: 'kinds.csv', mapping: { features: ['a', 'b', 'c', 'd'] }, id_column: 'id', carry: ['note'] }, { chunkRows: 400 });
  const { progress } = await ends(rig, id);
  if (progress.state==='failed') console.log(JSON.stringify(progress), rig.system.logs.slice(-8));
  expect(progress).toMatchObject({ state: 'completed', rows: { total: 2500, done: 2500, failed: 0 } });
  const { signature } = await pin(rig, 'iris');
  const direct = await runDirect(rig.system.models, 'iris', signature, { features: rows });
  const text = await read(rig, 'kinds.csv');
  console.log(text.slice(0, 300), direct.label.slice(0, 3), JSON.parse(await read(rig, 'kinds.manifest.json')));
  expect(await bulkRows(rig)).toBe(0);
});
