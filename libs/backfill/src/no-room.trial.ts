// A backfill in a process of its own, for the test that takes its disk away: `node no-room.trial.ts <input> <folder>`.
import { join } from 'node:path';
import { MillraceError } from '@millrace/protocol';
import { stage } from './stage.ts';
import { Trial } from './trial.ts';
import { WorkFolder } from './work-place.ts';

const [input = '', folder = ''] = process.argv.slice(2);
const trial = await Trial.open();
trial.work = new WorkFolder(join(folder, 'work'));
try {
  const plan = await trial.check({ input: { uri: input }, output: { uri: join(folder, 'out.ndjson') } });
  for await (const chunk of stage(plan, { work: trial.work })) await trial.runChunk(plan, chunk);
  process.stdout.write(JSON.stringify(await trial.assemble(plan)));
} catch (error) {
  if (!(error instanceof MillraceError)) throw error;
  process.stdout.write(JSON.stringify({ code: error.code, message: error.message }));
} finally {
  await trial.close();
}
