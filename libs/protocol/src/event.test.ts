import { expect, test } from 'vitest';
import { type BackfillProgress, type BackfillRecord, moved, unstarted } from './backfill.ts';
import { backfillBody, type BackfillHead, headOfBackfill } from './event.ts';

const model = { name: 'iris', version: 1, digest: 'd', pool: 'default', batched: true, signature: { inputs: [], outputs: [] }, labels: [] };
const made: BackfillRecord = {
  id: 'bf_1', tenant: 'acme', createdAt: 0, progress: unstarted,
  spec: { model, data: { input: { uri: '/in.csv' }, output: { uri: '/out.csv' }, mapping: { x: ['a', 'b'] } }, maxAttempts: 3, priority: 3 },
};
const running = moved(moved(unstarted, 'staging'), 'running');
const idOf = (progress: BackfillProgress) => headOfBackfill({ ...made, progress }, 7)?.eventId;

test('of a backfill that runs, each tenth of its rows but the last is one event, in each round', () => {
  const ids = Array.from({ length: 1001 }, (_, rows) => idOf({ ...running, rows: { total: 1000, done: rows - Math.floor(rows / 2), failed: Math.floor(rows / 2) } }));
  expect([ids[99], ids[100], ids[199], ids[999], ids[1000]]).toEqual([undefined, 'evt_bf_1_progress_0_10', 'evt_bf_1_progress_0_10', 'evt_bf_1_progress_0_90', undefined]);
  expect(new Set(ids).size).toBe(1 + 9);
  expect(idOf({ ...running, round: 2, rows: { total: 10, done: 5, failed: 0 } })).toBe('evt_bf_1_progress_2_50');
});

test('nothing is told while it is not known how many rows there are, of no rows, or of one that is paused', () => {
  const half = { total: 10, done: 5, failed: 0 };
  for (const progress of [{ ...running, rows: { done: 5, failed: 0 } }, { ...running, rows: { total: 0, done: 0, failed: 0 } }, moved({ ...running, rows: half }, 'paused')]) expect(idOf(progress)).toBeUndefined();
});

test('an end is one event however often it is asked for, and the next one is another', () => {
  const failed = moved(running, 'failed', { completedAt: 1000 });
  const again = moved(moved(failed, 'running'), 'failed', { completedAt: 2000 });
  const canceled = moved(failed, 'canceled', { completedAt: 3000 });
  expect([failed, failed, again, canceled].map(idOf)).toEqual(['evt_bf_1_failed_1000', 'evt_bf_1_failed_1000', 'evt_bf_1_failed_2000', 'evt_bf_1_canceled_3000']);
  expect(headOfBackfill({ ...made, progress: failed }, 7)).toMatchObject({ event: 'backfill.failed', at: 1000, backfill: { progress: { state: 'failed' } } });
});

test('a body has what came of it; a full one also what was asked for, as long as that is short', () => {
  const head = headOfBackfill({ ...made, progress: moved(running, 'failed', { completedAt: 1000 }) }, 7) as BackfillHead;
  const bodyOf = (payload: 'thin' | 'full', of = head) => JSON.parse(backfillBody(of, payload)) as { data: object };
  expect(bodyOf('thin')).toMatchObject({ type: 'backfill.failed', timestamp: '1970-01-01T00:00:01.000Z', data: { id: 'bf_1', status: 'failed', output: { uri: '/out.csv' } } });
  expect(bodyOf('thin').data).not.toHaveProperty('mapping');
  expect(bodyOf('full').data).toEqual({ ...bodyOf('thin').data, requested: null, input: { uri: '/in.csv' }, mapping: { x: ['a', 'b'] }, id_column: null, carry: [], max_error_ratio: null, max_attempts: 3, priority: 3, chunk_rows: null });
  const long: BackfillHead = { ...head, backfill: { ...head.backfill, spec: { ...made.spec, data: { ...made.spec.data, mapping: { x: Array.from({ length: 5000 }, (_, place) => `column ${place}`) } } } } };
  expect(bodyOf('full', long).data).toEqual({ ...bodyOf('thin').data, request_truncated: true });
});
