// A simulated replica: what it has claimed, and its threads.
import { type Lane, lanes } from '@millrace/protocol';
import Denque from 'denque';

export class Replica {
  readonly startedAt: number;
  readonly held: Readonly<Record<Lane, Denque<number>>> = { online: new Denque(), bulk: new Denque() };
  /** Rows held and running. */
  readonly claimed = { online: 0, bulk: 0 };
  readonly #threads: number;
  #freeThreads: number;
  isReady = false;
  isDraining = false;

  constructor(startedAt: number, threads: number) {
    this.startedAt = startedAt;
    this.#threads = threads;
    this.#freeThreads = threads;
  }

  get isIdle(): boolean {
    return this.#freeThreads === this.#threads;
  }

  claim(lane: Lane, list: Denque<number>, most: number): void {
    for (; this.claimed[lane] < most && list.length > 0; this.claimed[lane]++) this.held[lane].push(list.shift() as number);
  }

  /** A micro-batch for a free thread; undefined where there is none of either. */
  take(maxRows: number): { lane: Lane; rows: number[] } | undefined {
    const lane = lanes.find((lane) => this.held[lane].length > 0);
    if (!lane || this.#freeThreads === 0) return undefined;
    this.#freeThreads--;
    return { lane, rows: this.held[lane].splice(0, Math.min(maxRows, this.held[lane].length)) ?? [] };
  }

  done(lane: Lane, rows: number): void {
    this.claimed[lane] -= rows;
    this.#freeThreads++;
  }

  handBack(lane: Lane): number[] {
    const rows = this.held[lane].toArray();
    this.held[lane].clear();
    this.claimed[lane] -= rows.length;
    return rows;
  }
}
