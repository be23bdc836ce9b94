import { MillraceError } from '@millrace/protocol';
import { expect, test } from 'vitest';
import { Coalescer } from './coalescer.ts';

/** Sends that end when the test says so. */
function rig(options: { predictions?: number; bytes?: number; maxWaiting?: number; maxWaitingBytes?: number } = {}) {
  const refused = new MillraceError('idempotency-mismatch', 'not this one');
  const sends: { key: string; items: readonly number[]; end: (error?: Error) => void }[] = [];
  let arrived = () => {};
  const coalescer = new Coalescer<string, number, string>({
    limits: { predictions: options.predictions ?? 4, bytes: options.bytes ?? 1000, rows: 100 },
    sendsInFlight: 2,
    maxWaiting: options.maxWaiting ?? 100,
    maxWaitingBytes: options.maxWaitingBytes ?? 1000,
    send: (key, items) => new Promise((resolve, reject) => {
      const id = `b${sends.length}`;
      sends.push({ key, items, end: (error) => (error ? reject(error) : resolve(items.map((item, index) => (item < 0 ? refused : `${id}-${index}`)))) });
      arrived();
    }),
  });
  const untilSends = (count: number) => new Promise<void>((resolve) => {
    arrived = () => { if (sends.length >= count) resolve(); };
    arrived();
  });
  const submit = (item: number, key = 'k', bytes = 1, besideBytes = 0) => new Promise<string>((placed, failed) => { coalescer.submit(key, item, { bytes, besideBytes, rows: 1 }, { placed, failed }); });
  return { coalescer, sends, submit, untilSends };
}

test('what arrives in one turn goes together, and what arrives during two sends goes in the next', async () => {
  const { sends, submit, untilSends } = rig();
  const first = [submit(1), submit(2)];
  await untilSends(1);
  const second = [submit(3)];
  await untilSends(2);
  const third = [submit(4), submit(5), submit(6)];
  expect(sends.map(({ items }) => items)).toEqual([[1, 2], [3]]);
  sends[1]?.end();
  await untilSends(3);
  expect(sends[2]?.items).toEqual([4, 5, 6]);
  for (const { end } of sends) end();
  expect(await Promise.all([...first, ...second, ...third])).toEqual([
    'b0-0', 'b0-1', 'b1-0', 'b2-0', 'b2-1', 'b2-2',
  ]);
});

test('one item of a bundle can be refused', async () => {
  const { sends, submit, untilSends } = rig();
  const results = Promise.allSettled([submit(1), submit(-1), submit(2)]);
  await untilSends(1);
  sends[0]?.end();
  expect((await results).map((result) => (result.status === 'fulfilled' ? result.value : 'refused'))).toEqual(['b0-0', 'refused', 'b0-2']);
});

test('bundles keep their limits, keys never mix, and what is too large travels alone', async () => {
  const { sends, submit, untilSends } = rig({ predictions: 2, bytes: 10 });
  void Promise.all([submit(1), submit(2), submit(3), submit(9, 'other'), submit(4, 'big', 50), submit(5, 'big', 1)]);
  await untilSends(5);
  expect(sends.map(({ key, items }) => [key, ...items])).toEqual([['k', 1, 2], ['k', 3], ['other', 9], ['big', 4], ['big', 5]]);
  for (const { end } of sends) end();
});

test('a failed send fails what waits behind it too, and the next one is sent', async () => {
  const { coalescer, sends, submit, untilSends } = rig({ predictions: 1 });
  const results = Promise.allSettled([submit(1), submit(2), submit(3)]);
  await untilSends(2);
  sends[0]?.end(new Error('no Redis'));
  sends[1]?.end();
  expect((await results).map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'rejected']);
  expect(coalescer.waiting).toBe(0);
  const next = submit(4);
  await untilSends(3);
  sends[2]?.end();
  expect(await next).toBe('b2-0');
});

test('past its bound it refuses', async () => {
  const { sends, submit, untilSends } = rig({ maxWaiting: 2 });
  void Promise.all([submit(1), submit(2)]);
  await expect(submit(3)).rejects.toMatchObject({ code: 'overloaded', retryAfterSeconds: 1 });
  await untilSends(1);
  for (const { end } of sends) end();
});

test('what is held is bounded in bytes too, until it is safe, whether it travels inside its bundle or beside it', async () => {
  const { coalescer, sends, submit, untilSends } = rig({ maxWaitingBytes: 100 });
  const first = submit(1, 'k', 30, 60);
  await untilSends(1);
  expect(coalescer.waiting).toBe(0);
  await expect(submit(2, 'k', 11)).rejects.toMatchObject({ code: 'overloaded' });
  const second = submit(3, 'k', 10);
  sends[0]?.end();
  await first;
  await untilSends(2);
  sends[1]?.end();
  await second;
  const large = submit(4, 'k', 0, 500);
  await untilSends(3);
  sends[2]?.end();
  expect(await large).toBe('b2-0');
});
