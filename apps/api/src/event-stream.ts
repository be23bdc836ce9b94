// Server-Sent Events (https://html.spec.whatwg.org/multipage/server-sent-events.html): answers that stay open, all of a node's.
import { Readable } from 'node:stream';
import type { ApiMetrics } from './metrics.ts';

export type StreamKind = 'prediction' | 'tail';

export interface StreamEvent {
  /** What the client sends as `Last-Event-ID` when it comes back. None where it is to keep the one before. */
  readonly id?: string;
  readonly type: string;
  /** JSON on one line. */
  readonly data: string;
}

export interface EventStreamOptions {
  readonly kind: StreamKind;
  /** Asked now and then; the stream ends where it says no. */
  readonly mayStay: () => boolean;
  /** Sent while there is nothing else to say: a comment by default. */
  readonly heartbeat?: () => string;
}

/** Whoever comes back waits so long. */
const retryMs = 2000;
const comment = ':\n\n';
/** What waits for a reader beside what its connection holds; whoever sends more has to wait for room. */
export const mostWaitingBytes = 256 * 1024;
/** A reader that leaves that much waiting for so long is dropped. */
const slowMs = 10_000;
/** A revoked key is known after two seconds at most (libs/queue/src/key-ring.ts) and must not work for five. */
const tickMs = 2500;
/** Proxies cut what is silent for longer than about 30 s. */
const ticksToHeartbeat = 6;

/** One open answer. After its end it takes nothing more, and says so to nobody. */
export class EventStream {
  /** What the client is sent. */
  readonly body: Readable;
  readonly #options: EventStreamOptions;
  readonly #onDropped: () => void;
  #ended = false;
  #quietTicks = 0;
  #onRoom = () => {};

  constructor(options: EventStreamOptions, onDropped: () => void) {
    this.#options = options;
    this.#onDropped = onDropped;
    this.body = new Readable({ highWaterMark: mostWaitingBytes, read: () => this.#onRoom() });
    this.body.once('close', () => this.#onRoom());
    this.#write(`retry: ${retryMs}\n\n`);
  }

  /** False where it has ended, or the client has left. */
  get isOpen(): boolean {
    return !this.#ended && !this.body.destroyed;
  }

  /** Returns false where the reader is to be waited for: there is no more room. */
  send(event: StreamEvent | Buffer): boolean {
    this.#quietTicks = 0;
    return this.#write('type' in event ? textOf(event) : event);
  }

  /** Tells nothing but where the client comes back to. */
  place(id: string): void {
    this.#write(placeOf(id));
  }

  /** Resolves with true once there is room; with false when the client has left, or was dropped because it does not read. */
  async room(): Promise<boolean> {
    if (this.body.readableLength < mostWaitingBytes) return this.isOpen;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onRoom = resolve;
    const slow = setTimeout(() => this.#drop(), slowMs);
    await promise;
    clearTimeout(slow);
    this.#onRoom = () => {};
    return this.isOpen;
  }

  /** What waits is still sent. */
  end(): void {
    if (!this.isOpen) return;
    this.#ended = true;
    this.body.push(null);
  }

  tick(): void {
    if (!this.#options.mayStay()) return this.end();
    // Who reads nothing needs no sign of life.
    if (this.body.readableLength > 0 || ++this.#quietTicks < ticksToHeartbeat) return;
    this.#quietTicks = 0;
    this.#write(this.#options.heartbeat?.() ?? comment);
  }

  #drop(): void {
    this.#onDropped();
    this.body.destroy();
  }

  #write(text: string | Buffer): boolean {
    return this.isOpen && this.body.push(text);
  }
}

/** For many streams: made once, and not copied. */
export function bytesOf(event: StreamEvent): Buffer {
  return Buffer.from(textOf(event));
}

function textOf({ id, type, data }: StreamEvent): string {
  return `${id === undefined ? '' : `id: ${id}\n`}event: ${type}\ndata: ${data}\n\n`;
}

/** Sets the client's `Last-Event-ID` and shows it nothing: an event without data is none. */
export function placeOf(id: string): string {
  return `id: ${id}\n\n`;
}

/** The open streams of this node. */
export class EventStreams {
  readonly #metrics: Pick<ApiMetrics, 'openStreams' | 'droppedStreams'>;
  readonly #streams = new Set<EventStream>();
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(metrics: Pick<ApiMetrics, 'openStreams' | 'droppedStreams'>) {
    this.#metrics = metrics;
  }

  start(): void {
    this.#timer = setInterval(() => { for (const stream of this.#streams) stream.tick(); }, tickMs);
  }

  /** Ends all that are open, and each that is opened from now on. */
  stop(): void {
    this.#stopped = true;
    clearInterval(this.#timer);
    for (const stream of this.#streams) stream.end();
  }

  open(options: EventStreamOptions): EventStream {
    const { openStreams, droppedStreams } = this.#metrics;
    const { kind } = options;
    const stream = new EventStream(options, () => droppedStreams.inc({ kind }));
    this.#streams.add(stream);
    openStreams.inc({ kind });
    stream.body.once('close', () => {
      this.#streams.delete(stream);
      openStreams.dec({ kind });
    });
    if (this.#stopped) stream.end();
    return stream;
  }
}
