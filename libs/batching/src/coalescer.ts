// Predictions → bundles, by group commit: what arrives while a send is under way travels together in the next one.
// There is no timer. An idle system sends the first prediction at once; a busy one fills bundles.
import { MillraceError } from '@millrace/protocol';

export interface Weight {
  readonly bytes: number;
  readonly rows: number;
}

/** What an item weighs while it is here: some of it may travel beside its bundle. */
export interface HeldWeight extends Weight {
  readonly besideBytes?: number;
}

export interface BundleLimits extends Weight {
  readonly predictions: number;
}

export interface CoalescerOptions<Key, Item, Place> {
  /** Sends one bundle; resolves, once it is safe, to where each item went or why it did not. Rejects where nothing is known to be safe. */
  readonly send: (key: Key, items: readonly Item[]) => Promise<readonly (Place | MillraceError)[]>;
  readonly limits: BundleLimits;
  /** Sends of one key that may be under way at once. */
  readonly sendsInFlight: number;
  /** Predictions that may wait here, all keys together; past it they are refused as `overloaded`. */
  readonly maxWaiting: number;
  /** Bytes that may be held here, those under way included; past it likewise. */
  readonly maxWaitingBytes: number;
}

/** What comes of an item: exactly one of the two is called. */
export interface Sending<Place> {
  /** Its bundle is safe. */
  readonly placed: (place: Place) => void;
  readonly failed: (error: unknown) => void;
}

interface Entry<Item, Place> extends HeldWeight {
  readonly item: Item;
  readonly sending: Sending<Place>;
}

interface KeyState<Item, Place> {
  readonly waiting: Entry<Item, Place>[];
  inFlight: number;
  pumpScheduled: boolean;
}

/** Keys are told apart as a Map does: objects by identity. */
export class Coalescer<Key, Item, Place> {
  readonly #options: CoalescerOptions<Key, Item, Place>;
  readonly #keys = new Map<Key, KeyState<Item, Place>>();
  #waiting = 0;
  #heldBytes = 0;

  constructor(options: CoalescerOptions<Key, Item, Place>) {
    this.#options = options;
  }

  get waiting(): number {
    return this.#waiting;
  }

  /** Puts the item into the next bundle of its key. Fails it with `overloaded`, or with the send's error. */
  submit(key: Key, item: Item, weight: HeldWeight, sending: Sending<Place>): void {
    const { maxWaiting, maxWaitingBytes } = this.#options;
    if (this.#waiting >= maxWaiting || (this.#heldBytes > 0 && this.#heldBytes + heldBytes(weight) > maxWaitingBytes)) {
      const detail = `${this.#waiting} predictions, ${this.#heldBytes} bytes of inputs, already wait to be queued; the queue takes them more slowly than they come`;
      sending.failed(new MillraceError('overloaded', detail, { retryAfterSeconds: 1 }));
      return;
    }
    const state = this.#stateOf(key);
    this.#waiting++;
    this.#heldBytes += heldBytes(weight);
    state.waiting.push({ item, ...weight, sending });
    this.#schedule(key, state);
  }

  #stateOf(key: Key): KeyState<Item, Place> {
    let state = this.#keys.get(key);
    if (!state) this.#keys.set(key, state = { waiting: [], inFlight: 0, pumpScheduled: false });
    return state;
  }

  /** On the next turn of the event loop, so that requests which arrived in this one go together. */
  #schedule(key: Key, state: KeyState<Item, Place>): void {
    if (state.pumpScheduled || state.inFlight >= this.#options.sendsInFlight) return;
    state.pumpScheduled = true;
    setImmediate(() => {
      state.pumpScheduled = false;
      this.#pump(key, state);
    });
  }

  #pump(key: Key, state: KeyState<Item, Place>): void {
    while (state.waiting.length > 0 && state.inFlight < this.#options.sendsInFlight) {
      const entries = state.waiting.splice(0, this.#countThatFits(state.waiting));
      this.#waiting -= entries.length;
      state.inFlight++;
      void this.#send(key, state, entries);
    }
    if (state.waiting.length === 0 && state.inFlight === 0) this.#keys.delete(key);
  }

  /** Settles what becomes of them: they are held here no longer. */
  #release(entries: readonly Entry<Item, Place>[], tell: (sending: Sending<Place>, index: number) => void): void {
    for (const [index, entry] of entries.entries()) {
      this.#heldBytes -= heldBytes(entry);
      tell(entry.sending, index);
    }
  }

  async #send(key: Key, state: KeyState<Item, Place>, entries: readonly Entry<Item, Place>[]): Promise<void> {
    try {
      const places = await this.#options.send(key, entries.map(({ item }) => item));
      this.#release(entries, (sending, index) => {
        const place = places[index] as Place | MillraceError;
        if (place instanceof MillraceError) sending.failed(place);
        else sending.placed(place);
      });
    } catch (error) {
      // What waits behind it would wait for the same failure, one after another.
      const behind = state.waiting.splice(0);
      this.#waiting -= behind.length;
      this.#release([...entries, ...behind], (sending) => sending.failed(error));
    } finally {
      state.inFlight--;
      this.#pump(key, state);
    }
  }

  /** At least one: an item that alone is over a limit travels alone. */
  #countThatFits(waiting: readonly Entry<Item, Place>[]): number {
    const { limits } = this.#options;
    let bytes = 0;
    let rows = 0;
    let count = 0;
    for (const entry of waiting) {
      bytes += entry.bytes;
      rows += entry.rows;
      if (count > 0 && (count >= limits.predictions || bytes > limits.bytes || rows > limits.rows)) break;
      count++;
    }
    return count;
  }
}

function heldBytes({ bytes, besideBytes = 0 }: HeldWeight): number {
  return bytes + besideBytes;
}
