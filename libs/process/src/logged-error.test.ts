import { expect, test } from 'vitest';
import { loggedError } from './logged-error.ts';
import { printableUrl } from './logger.ts';

const secret = 'canary4711';

function thrown(act: () => unknown): unknown {
  try {
    return act();
  } catch (error) {
    return error;
  }
}

test('an error is logged with its code, its frames and its causes', () => {
  const logged = loggedError(new Error('cannot start', { cause: Object.assign(new TypeError('no such file'), { code: 'ENOENT' }) }));
  expect(logged).toMatchObject({ type: 'Error', message: 'cannot start', cause: { type: 'TypeError', message: 'no such file', code: 'ENOENT' } });
  expect(logged.stack).toMatch(/^ +at .*logged-error\.test\.ts/);
});

test.each([
  ['the arguments of a command', Object.assign(new Error('READONLY'), { command: { name: 'set', args: [secret] } })],
  ['the bytes of a request', Object.assign(new Error('Parse Error'), { rawPacket: Buffer.from(secret) })],
  ['the URL that cannot be read', thrown(() => new URL(`redis://:${secret}@x y`))],
  ['text that is no JSON', thrown(() => JSON.parse(`{"a":"${secret}",}`))],
  ['text that is no JSON at all', thrown(() => JSON.parse(secret))],
  ['a command that Redis does not know', new Error(`ERR unknown command 'x', with args beginning with: 'y' '${secret}'`)],
  ['a cause that quotes', new Error('failed', { cause: thrown(() => JSON.parse(`[${secret}`)) })],
  ['a message that looks like a frame', new Error(`ERR unknown command 'x', with args beginning with: 'y'\n    at ${secret}`)],
  ['a value that was thrown', { message: secret }],
  ['causes without end', thrown(() => { const error = new Error('round'); throw Object.assign(error, { cause: error, errors: [new Error(secret)] }); })],
])('%s is not logged', (_name, error) => {
  expect(error).toBeDefined();
  expect(JSON.stringify(loggedError(error))).not.toMatch(/canary/);
});

test('a URL is logged without what opens it', () => {
  expect(printableUrl(`rediss://user:${secret}@redis.internal:6380/2?password=${secret}`)).toBe('rediss://redis.internal:6380/2');
});
