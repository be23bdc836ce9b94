import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, onTestFinished, test } from 'vitest';
import { printableUrl } from './logger.ts';

test.each([
  ['redis://localhost:6379/1', 'redis://localhost:6379/1'],
  ['redis://me:secret@localhost', 'redis://localhost'],
  ['redis://:secret/@a@localhost', 'redis://localhost'],
  ['redis://localhost?password=secret', 'redis://localhost'],
  ['redis://me:sec?ret@localhost', 'redis://'],
  ['redis://localhost?password=sec@ret', 'redis://'],
  ['unix://me:secret@/run/redis.sock', 'unix:///run/redis.sock'],
  ['rediss+cluster://me:secret@a:1,b:2', 'rediss+cluster://a:1,b:2'],
  ['redis+sentinel://me:secret@a:1,b:2/main?sentinel_password=secret', 'redis+sentinel://a:1,b:2/main'],
])('%s is logged as %s', (url, printable) => {
  expect(printableUrl(url)).toBe(printable);
});

test('what is logged where nobody reads any more holds up no end', async () => {
  const script = `
    import { createLogger } from ${JSON.stringify(new URL('logger.ts', import.meta.url).href)};
    const log = createLogger('test', '0', 'info');
    process.stdin.once('end', () => { log.info('first'); log.fatal('last'); }).resume();`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(() => { child.kill('SIGKILL'); });
  child.stdout.destroy();
  await once(child.stdout, 'close');
  child.stdin.end();
  expect(await once(child, 'exit')).toEqual([0, null]);
});
