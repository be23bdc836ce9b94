// Wake-ups for one API node: a stream per pool, read with BLOCK. They are hints; the results hash is the truth.
import { predictionId } from '@millrace/protocol';
import type { Redis } from './connection.ts';
import { keysOf } from './names.ts';

export interface ReplyReaderOptions {
  /** A connection of its own: it is always inside a blocking read. */
  readonly blocking: Redis;
  /** For trimming and for keeping the stream alive. */
  readonly redis: Redis;
  readonly pool: string;
  readonly node: string;
  /** `reply` is the prediction as JSON text; empty where it was too long to be sent along. */
  readonly onReply: (predictionId: string, reply: string) => void;
  readonly onError: (error: unknown) => void;
}

const blockMs = 5000;
/** A node that fell behind takes what is there in parts: an entry may have a mebibyte. */
const entriesPerRead = 100;
/** A node that has not been heard of for this long is gone; its stream goes too. */
const streamSeconds = 60;
const upkeepMs = 1000;
const retryMs = 200;

export class ReplyReader {
  readonly #options: ReplyReaderOptions;
  readonly #stream: string;
  #lastId = '0-0';
  #stopped = false;
  #upkeep: NodeJS.Timeout | undefined;
  #reading: Promise<void> | undefined;

  constructor(options: ReplyReaderOptions) {
    this.#options = options;
    this.#stream = keysOf(options.pool).replies(options.node);
  }

  /** Resolves once the stream is there, so that no reply can miss it. */
  async start(): Promise<void> {
    await this.#keepAlive();
    this.#upkeep = setInterval(() => { this.#keepAlive().catch(this.#options.onError); }, upkeepMs);
    this.#reading = this.#read();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#upkeep);
    this.#options.blocking.disconnect();
    await this.#reading;
    await this.#options.redis.unlink(this.#stream).catch(this.#options.onError);
  }

  /** Makes the stream where Redis has lost it, drops what has been read, and puts off its end. */
  async #keepAlive(): Promise<void> {
    const { redis } = this.#options;
    if (await redis.exists(this.#stream) === 0) {
      await redis.xadd(this.#stream, '*', 'created', '');
    }
    await redis.pipeline().xtrim(this.#stream, 'MINID', this.#lastId).expire(this.#stream, streamSeconds).exec();
  }

  async #read(): Promise<void> {
    while (!this.#stopped) {
      try {
        const streams = await this.#options.blocking.xread('COUNT', entriesPerRead, 'BLOCK', blockMs, 'STREAMS', this.#stream, this.#lastId);
        for (const [id, fields] of entriesOf(streams)) {
          this.#lastId = id;
          this.#deliver(fields);
        }
      } catch (error) {
        if (this.#stopped) return;
        this.#options.onError(error);
        await new Promise((resolve) => { setTimeout(resolve, retryMs); });
      }
    }
  }

  #deliver(fields: readonly string[]): void {
    if (fields[0] !== 'bundle') return;
    const bundleId = fields[1] as string;
    for (let at = 2; at < fields.length; at += 2) {
      this.#options.onReply(predictionId(bundleId, Number(fields[at])), fields[at + 1] as string);
    }
  }
}

type Entry = [id: string, fields: string[]];

function entriesOf(streams: [key: string, entries: Entry[]][] | null): Entry[] {
  return streams?.[0]?.[1] ?? [];
}
