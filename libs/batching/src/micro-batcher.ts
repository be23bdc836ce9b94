// Claimed work → micro-batches, in memory. Work-conserving: whoever has a free inference thread asks for the next
// micro-batch and gets what is there, unless the model's manifest holds it back to fill up.
import type { Lane } from '@millrace/protocol';
import { type Candidate, compareUrgency, holdMs, isFull } from './policy.ts';

/** A piece of work: some rows of one prediction. Times in milliseconds since the epoch. */
export interface WorkItem {
  readonly lane: Lane;
  /** Lower ones run first. */
  readonly priority: number;
  readonly rows: number;
  readonly arrivedAt: number;
  /** Past it the item must not start. */
  readonly deadlineAt?: number | undefined;
}

export interface GroupOptions<Version> {
  readonly version: Version;
  readonly maxRows: number;
  readonly maxDelayMs: number;
}

export interface MicroBatch<Item, Version> {
  readonly version: Version;
  readonly items: readonly Item[];
  readonly rows: number;
}

export type Next<Item, Version> =
  | { readonly kind: 'run'; readonly batch: MicroBatch<Item, Version> }
  /** Nothing may run now; ask again after this time or when something changes. */
  | { readonly kind: 'hold'; readonly ms: number }
  | { readonly kind: 'idle' };

class Group<Item extends WorkItem, Version> implements Candidate {
  readonly lane: Lane;
  readonly version: Version;
  readonly maxRows: number;
  readonly maxDelayMs: number;
  /** By priority, then the earliest deadline first, then in order of arrival. */
  readonly items: Item[] = [];
  rows = 0;
  earliestDeadlineAt = Infinity;

  constructor(lane: Lane, { version, maxRows, maxDelayMs }: GroupOptions<Version>) {
    this.lane = lane;
    this.version = version;
    this.maxRows = maxRows;
    this.maxDelayMs = maxDelayMs;
  }

  get oldestAt(): number {
    return this.items.reduce((oldest, { arrivedAt }) => Math.min(oldest, arrivedAt), Infinity);
  }

  get priority(): number {
    return this.items[0]?.priority ?? Infinity;
  }

  insert(item: Item): void {
    let place = this.items.length;
    while (place > 0 && compareItems(item, this.items[place - 1] as Item) < 0) place--;
    if (place === this.items.length) this.items.push(item);
    else this.items.splice(place, 0, item);
    this.rows += item.rows;
    this.earliestDeadlineAt = Math.min(this.earliestDeadlineAt, deadlineOf(item));
  }

  /** Takes items in order up to the row limit; the first always fits. */
  take(): { items: Item[]; rows: number } {
    let rows = 0;
    let count = 0;
    for (const item of this.items) {
      if (count > 0 && rows + item.rows > this.maxRows) break;
      rows += item.rows;
      count++;
    }
    const items = this.items.splice(0, count);
    this.#recount();
    return { items, rows };
  }

  removeWhere(dead: (item: Item) => boolean): Item[] {
    if (!this.items.some(dead)) return [];
    const removed = this.items.filter(dead);
    const kept = this.items.filter((item) => !removed.includes(item));
    this.items.splice(0, this.items.length, ...kept);
    this.#recount();
    return removed;
  }

  #recount(): void {
    this.rows = this.items.reduce((sum, { rows }) => sum + rows, 0);
    this.earliestDeadlineAt = this.items.reduce((earliest, item) => Math.min(earliest, deadlineOf(item)), Infinity);
  }
}

function deadlineOf({ deadlineAt = Infinity }: WorkItem): number {
  return deadlineAt;
}

function compareItems(a: WorkItem, b: WorkItem): number {
  if (a.priority !== b.priority) return a.priority - b.priority;
  return deadlineOf(a) < deadlineOf(b) ? -1 : 1;
}

export class MicroBatcher<Item extends WorkItem, Version> {
  /** By lane and key. Two maps rather than one with a longer key, which every item would have to put together. */
  readonly #groups: Readonly<Record<Lane, Map<string, Group<Item, Version>>>> = { online: new Map(), bulk: new Map() };
  readonly #onExpired: (item: Item) => void;

  /** `onExpired` gets each item whose deadline passed before it could run. */
  constructor(onExpired: (item: Item) => void) {
    this.#onExpired = onExpired;
  }

  /** Rows that wait to run. */
  rowsOf(lane: Lane): number {
    let rows = 0;
    for (const group of this.#groups[lane].values()) rows += group.rows;
    return rows;
  }

  /** Items with the same key can share a micro-batch: same lane, model version and per-row shapes. */
  add(key: string, item: Item, options: GroupOptions<Version>): void {
    const groups = this.#groups[item.lane];
    let group = groups.get(key);
    if (!group) groups.set(key, group = new Group(item.lane, options));
    group.insert(item);
  }

  /** Takes out what is no longer wanted, and returns it. */
  removeWhere(dead: (item: Item) => boolean): Item[] {
    const removed = this.#all().flatMap((group) => group.removeWhere(dead));
    this.#dropEmpty();
    return removed;
  }

  /** The most urgent micro-batch that may run now. `canRun` says whether a thread would take it (`full`: waiting gains nothing). */
  next(now: number, canRun: (version: Version, full: boolean, lane: Lane) => boolean): Next<Item, Version> {
    this.#expire(now);
    const groups = this.#all();
    // Where one group is full, the place behind a running micro-batch goes to the most urgent, full or not: else a stream
    // of full bulk batches would keep a lone online prediction out for ever.
    const anyFull = groups.some(isFull);
    const candidates = groups.filter((group) => canRun(group.version, anyFull, group.lane));
    const [first, ...others] = candidates.filter((group) => holdMs(group, now) === 0);
    if (first) {
      const urgent = others.reduce((best, group) => (compareUrgency(group, best) < 0 ? group : best), first);
      const batch = { version: urgent.version, ...urgent.take() };
      this.#dropEmpty();
      return { kind: 'run', batch };
    }
    if (candidates.length === 0) return { kind: 'idle' };
    return { kind: 'hold', ms: Math.min(...candidates.map((group) => holdMs(group, now))) };
  }

  #all(): Group<Item, Version>[] {
    return [...this.#groups.online.values(), ...this.#groups.bulk.values()];
  }

  #expire(now: number): void {
    for (const group of this.#all()) {
      if (group.earliestDeadlineAt > now) continue;
      for (const item of group.removeWhere((one) => deadlineOf(one) <= now)) this.#onExpired(item);
    }
    this.#dropEmpty();
  }

  #dropEmpty(): void {
    for (const groups of Object.values(this.#groups)) {
      for (const [key, group] of groups) if (group.items.length === 0) groups.delete(key);
    }
  }
}
