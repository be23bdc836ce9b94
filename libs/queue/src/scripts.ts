// Our own commands: Lua scripts that every connection knows by name. ioredis sends a script's text once and its digest from
// then on. What keys and arguments are, and what comes back, stands at the head of each file.
import { readFileSync } from 'node:fs';
import type { BackfillState } from '@millrace/protocol';

export interface Scripts {
  millraceAdmit(depth: string, bookings: string, work: string, index: string, bundleId: string, lane: string, model: string, tenant: string, rows: number, forgetBefore: string, seconds: number): Promise<null>;
  millraceBackfillWish(backfill: string, open: string, id: string, wish: string, ...states: string[]): Promise<'granted' | 'unknown' | BackfillState>;
  millraceBackfillWrite(backfill: string, open: string, lease: string, resultsQueue: string, feed: string, id: string, token: string, state: string, progress: string, granted: string, idle: 0 | 1, seconds: number, tenant: string, eventId: string, head: string, feedLength: number): Promise<0 | 1 | 2>;
  millraceBeat(replicas: string, replica: string, state: string, threads: number): Promise<null>;
  millraceBookChunk(depth: string, bookings: string, work: string, chunks: string, chunk: string, jobId: string, model: string, tenant: string, rows: number, seconds: number): Promise<0 | 1>;
  millraceClaim(hosts: string, holds: string, prefix: string, host: string, leaseMs: number, count: number): Promise<string[]>;
  millraceDeliver(hosts: string, holds: string, prefix: string, seconds: number, deliveredSeconds: number, forgetBefore: string, leaseMs: number, ...deliveries: (string | number)[]): Promise<string[]>;
  millraceDemand(keyCount: number, ...keysAndArguments: (string | number)[]): Promise<[now: string, depth: string[], work: string[], replicas: string[], running: (string | number)[], oldest: number[], decision: string, toCome: string[]]>;
  millraceEnroll(hash: string, field: string, value: string, most: number): Promise<number>;
  millraceExtend(lease: string, token: string, ms: number): Promise<0 | 1>;
  millraceFeed(feed: string, seconds: number, last: string, from: '(' | '', count: number): Promise<[there: number, entries: [id: string, fields: string[]][]]>;
  millraceFinish(hosts: string, holds: string, prefix: string, forgetBefore: string, ...deliveries: (string | number)[]): Promise<null>;
  millraceHold(hosts: string, holds: string, host: string, ms: number): Promise<null>;
  millraceRedeliver(hosts: string, holds: string, prefix: string, ...deliveries: (string | number)[]): Promise<string[]>;
  millraceReplace(hash: string, field: string, before: string, after: string): Promise<number>;
  millraceReserve(key: string, fingerprint: string, id: string, seconds: number, insteadOf: string): Promise<['reserved' | 'mismatch'] | ['taken', string, number]>;
  millraceSettle(keyCount: number, ...keysAndArguments: (string | number)[]): Promise<string[]>;
  millraceSettleChunk(depth: string, bookings: string, work: string, chunks: string, chunk: string, jobId: string, result: string, ...costs: number[]): Promise<0 | 1>;
  millraceSummaries(results: string): Promise<string[]>;
  millraceTake(key: string, wanted: number, allowed: number, windowMs: number): Promise<[granted: number, left: number, resetMs: number]>;
  millraceToCome(toCome: string, backfillId: string, model: string, rows: number): Promise<number>;
  millraceUnbook(depth: string, bookings: string, index: string, bundleId: string): Promise<null>;
  millraceWatch(results: string, index: number, node: string, seconds: number): Promise<number>;
}

interface Definition {
  readonly lua: string;
  /** Where it is left out, a command's first argument says it. */
  readonly numberOfKeys?: number;
}

/** The definitions, as ioredis takes them. */
export function scripts(): Record<keyof Scripts, Definition> {
  return {
    millraceAdmit: { lua: read('booking.lua') + read('admit.lua'), numberOfKeys: 4 },
    millraceBackfillWish: { lua: read('backfill-wish.lua'), numberOfKeys: 2 },
    millraceBackfillWrite: { lua: read('backfill-write.lua'), numberOfKeys: 5 },
    millraceBeat: { lua: read('beat.lua'), numberOfKeys: 1 },
    millraceBookChunk: { lua: read('booking.lua') + read('book-chunk.lua'), numberOfKeys: 4 },
    millraceClaim: { lua: read('hosts.lua') + read('claim.lua'), numberOfKeys: 2 },
    millraceDeliver: { lua: read('hosts.lua') + read('deliver.lua'), numberOfKeys: 2 },
    millraceDemand: { lua: read('booking.lua') + read('demand.lua') },
    millraceEnroll: { lua: read('enroll.lua'), numberOfKeys: 1 },
    millraceExtend: { lua: read('extend.lua'), numberOfKeys: 1 },
    millraceFeed: { lua: read('feed.lua'), numberOfKeys: 1 },
    millraceFinish: { lua: read('hosts.lua') + read('finish.lua'), numberOfKeys: 2 },
    millraceHold: { lua: read('hosts.lua') + read('hold.lua'), numberOfKeys: 2 },
    millraceRedeliver: { lua: read('hosts.lua') + read('redeliver.lua'), numberOfKeys: 2 },
    millraceReplace: { lua: read('replace.lua'), numberOfKeys: 1 },
    millraceReserve: { lua: read('reserve.lua'), numberOfKeys: 1 },
    millraceSettle: { lua: read('head.lua') + read('booking.lua') + read('work.lua') + read('settle.lua') },
    millraceSettleChunk: { lua: read('booking.lua') + read('work.lua') + read('settle-chunk.lua'), numberOfKeys: 4 },
    millraceSummaries: { lua: read('head.lua') + read('summaries.lua'), numberOfKeys: 1 },
    millraceTake: { lua: read('take.lua'), numberOfKeys: 1 },
    millraceToCome: { lua: read('to-come.lua'), numberOfKeys: 1 },
    millraceUnbook: { lua: read('booking.lua') + read('unbook.lua'), numberOfKeys: 3 },
    millraceWatch: { lua: read('watch.lua'), numberOfKeys: 1 },
  };
}

function read(file: string): string {
  return readFileSync(new URL(file, import.meta.url), 'utf8');
}
