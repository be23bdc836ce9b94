import fc from 'fast-check';
import { expect, test } from 'vitest';
import { MicroBatcher, type WorkItem } from './micro-batcher.ts';
import { bundlesToClaim } from './policy.ts';

interface Item extends WorkItem { readonly name: string }

const item = (name: string, more: Partial<WorkItem> = {}): Item => ({ name, lane: 'online', priority: 3, rows: 1, arrivedAt: 0, ...more });
const always = () => true;

function batcher() {
  const expired: string[] = [];
  const it = new MicroBatcher<Item, string>(({ name }) => { expired.push(name); });
  const add = (key: string, one: Item, maxRows = 4, maxDelayMs = 0) => it.add(key, one, { version: key, maxRows, maxDelayMs });
  const next = (now = 0, canRun: (version: string, full: boolean) => boolean = always) => {
    const found = it.next(now, canRun);
    return found.kind === 'run' ? found.batch.items.map(({ name }) => name) : found;
  };
  return { it, add, next, expired };
}

test('takes what is there up to the row limit, in order', () => {
  const { add, next } = batcher();
  for (const name of ['a', 'b', 'c']) add('m', item(name, { rows: 2 }));
  expect([next(), next(), next()]).toEqual([['a', 'b'], ['c'], { kind: 'idle' }]);
});

test('online goes before bulk, then by priority, then the earliest deadline, then the oldest', () => {
  const { add, next } = batcher();
  add('bulk', item('bulk', { lane: 'bulk', arrivedAt: 0 }));
  add('late', item('late', { arrivedAt: 2 }));
  add('old', item('old', { arrivedAt: 1 }));
  add('urgent', item('relaxed', { arrivedAt: 3 }));
  add('urgent', item('urgent', { arrivedAt: 4, deadlineAt: 50 }));
  add('first', item('first', { arrivedAt: 5, priority: 2 }));
  add('last', item('last', { arrivedAt: 0, priority: 4, deadlineAt: 10 }));
  expect(Array.from({ length: 6 }, () => next(9))).toEqual([['first'], ['urgent', 'relaxed'], ['old'], ['late'], ['last'], ['bulk']]);
});

test('priorities share a micro-batch, the urgent ones in front, and a deadline behind them still counts', () => {
  const { add, next, expired } = batcher();
  add('m', item('low', { priority: 7, rows: 2 }));
  add('m', item('late', { priority: 7, deadlineAt: 5 }));
  add('m', item('high', { priority: 0, rows: 2 }));
  expect([next(9), next(9)]).toEqual([['high', 'low'], { kind: 'idle' }]);
  expect(expired).toEqual(['late']);
});

test('is held back to fill up, no longer than the delay, and not when full', () => {
  const { add, next } = batcher();
  add('m', item('a', { arrivedAt: 100 }), 2, 10);
  expect(next(104)).toEqual({ kind: 'hold', ms: 6 });
  expect(next(110)).toEqual(['a']);
  add('m', item('b', { arrivedAt: 200 }), 2, 10);
  add('m', item('c', { arrivedAt: 201 }), 2, 10);
  expect(next(201)).toEqual(['b', 'c']);
});

test('is not held back past a deadline', () => {
  const { add, next } = batcher();
  add('m', item('a', { arrivedAt: 100, deadlineAt: 105 }), 2, 10);
  expect(next(101)).toEqual(['a']);
});

test('a busy thread is offered full micro-batches only', () => {
  const { add, next } = batcher();
  add('m', item('a', { rows: 3 }));
  expect(next(0, (_version, full) => full)).toEqual({ kind: 'idle' });
  add('m', item('b', { rows: 1 }));
  expect(next(0, (_version, full) => full)).toEqual(['a', 'b']);
});

test('full bulk batches do not keep an online prediction out', () => {
  const { add, next } = batcher();
  add('bulk', item('b', { lane: 'bulk', rows: 4 }));
  add('m', item('a', { arrivedAt: 5 }));
  expect(next(9, (_version, full) => full)).toEqual(['a']);
});

test('what has expired or is not wanted never runs', () => {
  const { it, add, next, expired } = batcher();
  add('m', item('a', { deadlineAt: 10 }));
  add('m', item('b'));
  add('m', item('c'));
  expect(it.removeWhere(({ name }) => name === 'c').map(({ name }) => name)).toEqual(['c']);
  expect(next(10)).toEqual(['b']);
  expect(expired).toEqual(['a']);
});

test('every item comes out exactly once, and only an item larger than the limit exceeds it', () => {
  const work = fc.array(fc.record({ key: fc.constantFrom('m', 'n'), rows: fc.integer({ min: 1, max: 6 }), lane: fc.constantFrom('online' as const, 'bulk' as const), priority: fc.integer({ min: 0, max: 7 }), deadlineAt: fc.option(fc.integer({ min: 1, max: 20 }), { nil: undefined }) }), { maxLength: 40 });
  fc.assert(fc.property(work, fc.integer({ min: 0, max: 25 }), (pieces, now) => {
    const { it, add, expired } = batcher();
    for (const [index, { key, ...more }] of pieces.entries()) add(key, item(String(index), more));
    const ran: string[] = [];
    for (let found = it.next(now, always); found.kind === 'run'; found = it.next(now, always)) {
      expect(found.batch.rows <= 4 || found.batch.items.length === 1).toBe(true);
      ran.push(...found.batch.items.map(({ name }) => name));
    }
    expect([...ran, ...expired].toSorted()).toEqual(pieces.map((_, index) => String(index)).toSorted());
    for (const name of expired) expect(pieces[Number(name)]?.deadlineAt ?? Infinity).toBeLessThanOrEqual(now);
    expect([it.rowsOf('online'), it.rowsOf('bulk')]).toEqual([0, 0]);
  }));
});

test('claims two micro-batches ahead of the one that runs, less where that is long, and never starves a thread', () => {
  expect(bundlesToClaim({ maxRows: 64, threads: 1, rowsPerBundle: 40, secondsPerRow: 0 })).toBe(5);
  expect(bundlesToClaim({ maxRows: 64, threads: 1, rowsPerBundle: 1, secondsPerRow: 0.00001 })).toBe(128);
  expect(bundlesToClaim({ maxRows: 64, threads: 1, rowsPerBundle: 16, secondsPerRow: 0.01 })).toBe(4);
  expect(bundlesToClaim({ maxRows: 1, threads: 4, rowsPerBundle: 500, secondsPerRow: 1 })).toBe(5);
});
