// Clients of event streams: a real EventSource, and a bare connection that can be left unread.
import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { EventSource } from 'eventsource';
import { onTestFinished } from 'vitest';

export interface Seen {
  readonly id: string;
  readonly type: string;
  // Tests look into events freely; a wrong path fails the expectation.
  // oxlint-disable-next-line typescript/no-explicit-any
  readonly data: any;
}

const ends = ['completed', 'failed', 'canceled', 'expired'];
const types = ['status', ...ends, ...ends.map((end) => `prediction.${end}`), ...ends.map((end) => `backfill.${end}`), 'gap'];

export interface Followed {
  readonly seen: Seen[];
  readonly source: EventSource;
  /** What the stream was answered with, each time that it was opened: status and `Last-Event-ID` sent. */
  readonly answers: { readonly status: number; readonly lastEventId: string | undefined }[];
}

/** Follows a stream as a browser does, until the test has ended. Resolves once the head is there. */
export async function follow(url: string, headers: Readonly<Record<string, string>> = {}): Promise<Followed> {
  const seen: Seen[] = [];
  const answers: Followed['answers'] = [];
  const { promise: answered, resolve } = Promise.withResolvers<void>();
  const source = new EventSource(url, {
    fetch: async (input, init) => {
      const response = await fetch(input, { ...init, headers: { ...init.headers, ...headers } });
      answers.push({ status: response.status, lastEventId: (init.headers as Record<string, string>)['Last-Event-ID'] });
      resolve();
      return response;
    },
  });
  onTestFinished(() => source.close());
  for (const type of types) source.addEventListener(type, ({ lastEventId: id, data }) => { seen.push({ id, type, data: JSON.parse(data as string) }); });
  await answered;
  return { seen, source, answers };
}

/** A stream on a connection of its own, as it comes. */
export class Bare {
  readonly response: IncomingMessage;
  readonly seen: Seen[] = [];
  /** The last `id` that came, with an event or without. */
  lastEventId = '';
  readonly #chunks: string[] = [];
  #rest = '';
  readonly #ended: Promise<unknown>;

  private constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding('utf8').on('data', (chunk: string) => this.#take(chunk));
    this.#ended = once(response, 'end');
    this.#ended.catch(() => { /* for who asks */ });
  }

  /** Resolves with its head. It is left when the test has ended. */
  static async open(url: string, headers: Readonly<Record<string, string>> = {}): Promise<Bare> {
    const request = get(url, { agent: false, headers });
    onTestFinished(() => { request.destroy(); });
    request.on('error', () => { /* it rejects below, or was left */ });
    const [response] = await once(request, 'response') as [IncomingMessage];
    return new Bare(response);
  }

  /** All of it. Rejects where the stream is cut off. */
  async text(): Promise<string> {
    await this.#ended;
    return this.#chunks.join('');
  }

  leave(): void {
    this.response.destroy();
  }

  #take(chunk: string): void {
    this.#chunks.push(chunk);
    const blocks = (this.#rest + chunk).split('\n\n');
    this.#rest = blocks.pop() as string;
    for (const block of blocks) {
      const [, id, type, data] = /^(?:id: (.*))?\n?(?:event: (.*)\ndata: (.*))?/.exec(block) ?? [];
      this.lastEventId = id ?? this.lastEventId;
      if (type !== undefined) this.seen.push({ id: this.lastEventId, type, data: JSON.parse(data as string) });
    }
  }
}
