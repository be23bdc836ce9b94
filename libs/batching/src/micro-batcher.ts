// Claimed work → micro-batches, in memory. Work-conserving: whoever has a free inference thread asks for the next
// micro-batch and gets what is there, unless the model's manifest holds it back to fill up.
import type { Lane } from '@millrace/protocol';
import { type Candidate, compareUrgency, holdMs, isFull } from './policy.ts';

/** A piece of work: some rows of one prediction. Times in milliseconds since the epoch. */
export interface WorkItem {
  readonly lane: Lane;
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
  /** Earliest deadline first, then in order of arrival. */
  readonly items: Item[] = [];
  rows = 0;

  constructor(lane: Lane, { version, maxRows, maxDelayMs }: GroupOptions<Version>) {
    this.lane = lane;
    this.version = version;
    this.maxRows = maxRows;
    this.maxDelayMs = maxDelayMs;
  }

  get oldestAt(): number {
    return this.items.reduce((oldest, { arrivedAt }) => Math.min(oldest, arrivedAt), Infinity);
  }

  get earliestDeadlineAt(): number {
    return this.items[0]?.deadlineAt ?? Infinity;
  }

  insert(item: Item): void {
    const deadline = item.deadlineAt ?? Infinity;
    let place = this.items.length;
    while (place > 0 && (this.items[place - 1]?.deadlineAt ?? Infinity) > deadline) place--;
    if (place === this.items.length) this.items.push(item);
    else this.items.splice(place, 0, item);
    this.rows += item.rows;
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
    this.rows -= rows;
    return { items: this.items.splice(0, count), rows };
  }

  removeWhere(dead: (item: Item) => boolean): Item[] {
    if (!this.items.some(dead)) return [];
    const removed = this.items.filter(dead);
    const kept = this.items.filter((item) => !removed.includes(item));
    this.items.splice(0, this.items.length, ...kept);
    this.rows = kept.reduce((sum, { rows }) => sum + rows, 0);
    return removed;
  }
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
  get rows(): number {
    let rows = 0;
    for (const group of this.#all()) rows += group.rows;
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
  next(now: number, canRun: (version: Version, full: boolean) => boolean): Next<Item, Version> {
    this.#expire(now);
    const groups = this.#all();
    // Where one group is full, the place behind a running micro-batch goes to the most urgent, full or not: else a stream
    // of full bulk batches would keep a lone online prediction out for ever.
    const anyFull = groups.some(isFull);
    const candidates = groups.filter((group) => canRun(group.version, anyFull));
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
      // Deadlines stand in order, so the first item tells whether there is anything to do.
      if (group.earliestDeadlineAt > now) continue;
      for (const item of group.removeWhere(({ deadlineAt = Infinity }) => deadlineAt <= now)) this.#onExpired(item);
    }
    this.#dropEmpty();
  }

  #dropEmpty(): void {
    for (const groups of Object.values(this.#groups)) {
      for (const [key, group] of groups) if (group.items.length === 0) groups.delete(key);
    }
  }
}
