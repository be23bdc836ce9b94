import { Counter, Gauge } from '@millrace/process';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type EventStream, type EventStreamOptions, EventStreams, mostWaitingBytes, placeOf } from './event-stream.ts';

beforeEach(() => { vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'setTimeout', 'clearTimeout'] }); });
afterEach(() => { vi.useRealTimers(); });

function rig() {
  const openStreams = new Gauge({ name: 'open', help: 'open', labelNames: ['kind'], registers: [] });
  const droppedStreams = new Counter({ name: 'dropped', help: 'dropped', labelNames: ['kind'], registers: [] });
  const streams = new EventStreams({ openStreams, droppedStreams });
  streams.start();
  const open = (options: Partial<EventStreamOptions> = {}) => streams.open({ kind: 'tail', mayStay: () => true, ...options });
  const valueOf = async (metric: Counter | Gauge) => (await metric.get()).values[0]?.value ?? 0;
  return { streams, open, counts: async () => [await valueOf(openStreams), await valueOf(droppedStreams)] };
}

/** What a reader gets, as it gets it. */
function reading({ body }: EventStream): { text: string; ended: boolean } {
  const got = { text: '', ended: false };
  body.setEncoding('utf8').on('data', (chunk: string) => { got.text += chunk; }).on('end', () => { got.ended = true; });
  return got;
}

/** Lets the streams' own callbacks run. */
const turn = () => new Promise((resolve) => { setImmediate(resolve); });

test('a stream tells how soon to come back, then its events', async () => {
  const stream = rig().open();
  stream.place('a:1');
  stream.send({ id: 'a:2', type: 'prediction.completed', data: '{"x":1}' });
  stream.send({ type: 'gap', data: '{}' });
  stream.end();
  stream.send({ type: 'late', data: '{}' });
  const got = reading(stream);
  await turn();
  expect(got).toEqual({ text: 'retry: 2000\n\nid: a:1\n\nid: a:2\nevent: prediction.completed\ndata: {"x":1}\n\nevent: gap\ndata: {}\n\n', ended: true });
});

test('one that has been silent for 15 seconds gives a sign of life', async () => {
  const { open } = rig();
  const [quiet, busy, tail] = [open(), open(), open({ heartbeat: () => placeOf('a:7') })];
  const got = [quiet, busy, tail].map(reading);
  await turn();
  vi.advanceTimersByTime(10_000);
  busy.send({ type: 'x', data: '1' });
  await turn();
  vi.advanceTimersByTime(5_000);
  await turn();
  expect(got.map(({ text }) => text.replace('retry: 2000\n\n', ''))).toEqual([':\n\n', 'event: x\ndata: 1\n\n', 'id: a:7\n\n']);
  vi.advanceTimersByTime(15_000);
  await turn();
  expect(got[0]?.text).toBe('retry: 2000\n\n:\n\n:\n\n');
});

test('one whose caller may not stay ends', async () => {
  let mayStay = true;
  const { open, counts } = rig();
  const got = reading(open({ mayStay: () => mayStay }));
  vi.advanceTimersByTime(5_000);
  expect(got.ended).toBe(false);
  mayStay = false;
  vi.advanceTimersByTime(2_500);
  await turn();
  expect([got.ended, await counts()]).toEqual([true, [0, 0]]);
});

test('who reads gets all, however much comes at once; who does not is dropped', async () => {
  const { open, counts } = rig();
  const [reader, idler] = [open(), open()];
  const event = { type: 'x', data: 'y'.repeat(10_000) };
  for (const stream of [reader, idler]) while (stream.send(event)) { /* until there is no more room */ }
  expect(reader.body.readableLength).toBeLessThan(mostWaitingBytes + 20_000);
  const [room, none] = [reader.room(), idler.room()];
  reading(reader);
  expect(await room).toBe(true);
  vi.advanceTimersByTime(10_000);
  expect(await none).toBe(false);
  expect([reader.isOpen, idler.isOpen, await counts()]).toEqual([true, false, [1, 1]]);
});

test('who leaves while it is waited for is not waited for', async () => {
  const { open, counts } = rig();
  const stream = open();
  while (stream.send({ type: 'x', data: 'y'.repeat(10_000) })) { /* until there is no more room */ }
  const room = stream.room();
  stream.body.destroy();
  expect([await room, await counts()]).toEqual([false, [0, 0]]);
});

test('at the stop all end, and what is opened after it too', async () => {
  const { streams, open } = rig();
  const before = reading(open());
  streams.stop();
  const after = reading(open());
  await turn();
  expect([before.ended, after.ended]).toEqual([true, true]);
});
