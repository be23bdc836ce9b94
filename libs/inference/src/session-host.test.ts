import { expect, test } from 'vitest';
import { SessionHost } from './session-host.ts';

test('a thread that dies fails what it was asked for, and says so once', async () => {
  const deaths: Error[] = [];
  const host = new SessionHost('test', (error) => deaths.push(error));
  await host.ready();
  // A batch for a session that was never loaded: only a bug can ask for it.
  const bug = host.run({ type: 'run', key: 'nothing', rows: [1], inputs: [] }, []);
  await expect(bug).rejects.toMatchObject({ code: 'worker-crashed' });
  await host.stop();
  expect(deaths).toMatchObject([{ message: expect.stringContaining('not loaded') }]);
  expect(host.alive).toBe(false);
  await expect(host.release('nothing')).rejects.toMatchObject({ code: 'worker-crashed' });
});
