// An open-loop load: requests leave at seeded moments, however the ones before them fare.
import { setTimeout as delay } from 'node:timers/promises';
import type { Cases } from './cases.ts';
import type { Client } from './client.ts';

const usualPerSecond = 150;
const batchSize = 10;
const waitSeconds = 20;
/** Requests that may be open at once: beyond it one is not sent, and that is counted. */
const mostOpen = 3000;

export class Load {
  /** Requests to which no answer came: whether they were accepted is unknown. */
  unanswered = 0;
  unsent = 0;
  readonly #client: Client;
  readonly #cases: Cases;
  readonly #random: () => number;
  readonly #perSecond: number;
  readonly #open = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #sending: Promise<void>;

  /** Starts at once. */
  constructor(client: Client, cases: Cases, random: () => number, perSecond = usualPerSecond) {
    this.#client = client;
    this.#cases = cases;
    this.#random = random;
    this.#perSecond = perSecond;
    this.#sending = this.#send();
  }

  /** Sends no more; resolves once every request is answered or given up. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#sending;
    await Promise.all(this.#open);
  }

  async #send(): Promise<void> {
    for (let dueAt = performance.now(); !this.#stopping.signal.aborted; dueAt -= Math.log(1 - this.#random()) * 1000 / this.#perSecond) {
      const early = dueAt - performance.now();
      if (early > 0) await delay(early);
      const request = this.#draw();
      if (this.#open.size >= mostOpen) {
        this.unsent++;
        continue;
      }
      const open = request().then(() => {}, () => { this.unanswered++; }).finally(() => this.#open.delete(open));
      this.#open.add(open);
    }
  }

  /** Draws all that is random before anything is sent, so that answers do not change what comes next. */
  #draw(): () => Promise<unknown> {
    const client = this.#client;
    const kind = this.#random();
    const asked = this.#cases.draw(this.#random);
    if (kind < 0.05) {
      const all = [asked, ...Array.from({ length: batchSize - 1 }, () => this.#cases.draw(this.#random))];
      return () => client.postBatch(all);
    }
    if (kind < 0.25) return () => client.post({ asked, waitSeconds });
    return async () => {
      const accepted = await client.post({ asked });
      if (!accepted || kind > 0.45) return;
      await (kind < 0.35 ? client.cancel(accepted) : client.read(accepted, waitSeconds));
    };
  }
}
