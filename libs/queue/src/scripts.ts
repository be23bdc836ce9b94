// Our own commands: Lua scripts that every connection knows by name. ioredis sends a script's text once and its digest from
// then on. What keys and arguments are, and what comes back, stands at the head of each file.
import { readFileSync } from 'node:fs';

export interface Scripts {
  millraceAdmit(depth: string, index: string, bundleId: string, lane: string, tenant: string, rows: number, forgetBefore: string, seconds: number): Promise<null>;
  millraceDepth(keyCount: number, ...keysAndArguments: string[]): Promise<[depth: string[], oldest: number[]]>;
  millraceReserve(key: string, fingerprint: string, id: string, seconds: number, insteadOf: string): Promise<['reserved' | 'mismatch'] | ['taken', string, number]>;
  millraceSettle(keyCount: number, ...keysAndArguments: (string | number)[]): Promise<string[]>;
  millraceSummaries(results: string): Promise<string[]>;
  millraceTake(key: string, wanted: number, allowed: number, windowMs: number): Promise<[granted: number, left: number, resetMs: number]>;
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
    millraceAdmit: { lua: read('admit.lua'), numberOfKeys: 2 },
    millraceDepth: { lua: read('depth.lua') },
    millraceReserve: { lua: read('reserve.lua'), numberOfKeys: 1 },
    millraceSettle: { lua: read('settle.lua') },
    millraceSummaries: { lua: read('summaries.lua'), numberOfKeys: 1 },
    millraceTake: { lua: read('take.lua'), numberOfKeys: 1 },
    millraceWatch: { lua: read('watch.lua'), numberOfKeys: 1 },
  };
}

function read(file: string): string {
  return readFileSync(new URL(file, import.meta.url), 'utf8');
}
