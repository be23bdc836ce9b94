// What the processes did and what was done to them, all on the clock of this process.
import type { ServiceLog } from '../../apps/cli/src/embedded/service.ts';
import { within } from '../integration/until.ts';

interface Start {
  readonly worker: string;
  readonly at: number;
}

/** Something done that may explain a second run. Without a worker's name it touched all of them. */
interface Disruption {
  readonly worker: string | undefined;
  readonly from: number;
  to: number;
}

/** Connections come back within a second, and a line is read a moment after it was written. */
const aftermathMs = 2000;

export class History {
  readonly #starts = new Map<string, Start[]>();
  readonly #disruptions: Disruption[] = [];
  readonly #listeners = new Set<(service: string, message: string) => void>();
  readonly #said = new Map<string, number>();

  readonly #keep: ServiceLog;

  /** `keep` takes every line but those of micro-batches. */
  constructor(keep: ServiceLog) {
    this.#keep = keep;
  }

  /** To be told of every log line. */
  readonly hear: ServiceLog = (service, fields) => {
    const { msg, predictionIds } = fields;
    const message = String(msg);
    if (message !== 'micro-batch runs') this.#keep(service, fields);
    this.#said.set(message, this.said(message) + 1);
    if (message === 'micro-batch runs') {
      for (const id of predictionIds as string[]) this.startsOf(id).push({ worker: service, at: performance.now() });
    }
    for (const listener of this.#listeners) listener(service, message);
  };

  /** How often any process has logged this message. */
  said(message: string): number {
    return this.#said.get(message) ?? 0;
  }

  /** The next message of a service that begins like this. */
  next(service: string, beginning: string): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const listener = (from: string, message: string) => {
      if (from === service && message.startsWith(beginning)) resolve(message);
    };
    this.#listeners.add(listener);
    return within(60, promise, `"${beginning}" from ${service}`).finally(() => this.#listeners.delete(listener));
  }

  /** Notes that workers are being disturbed from now on; the function that is returned ends it. */
  disrupt(worker?: string): () => void {
    const disruption: Disruption = { worker, from: performance.now(), to: Infinity };
    this.#disruptions.push(disruption);
    return () => { disruption.to = performance.now(); };
  }

  startsOf(id: string): Start[] {
    let starts = this.#starts.get(id);
    if (!starts) this.#starts.set(id, starts = []);
    return starts;
  }

  /** Predictions that ran more than once, and those of them for which no disruption accounts. */
  doubles(): { readonly count: number; readonly unexplained: string[] } {
    const doubled = [...this.#starts].filter(([, starts]) => starts.length > 1);
    return { count: doubled.length, unexplained: doubled.filter(([, starts]) => !this.#explains(starts)).map(([id]) => id) };
  }

  /** Between one start and the next, something must have happened to the worker that ran it first. */
  #explains(starts: readonly Start[]): boolean {
    return starts.slice(1).every((second, index) => {
      const first = starts[index] as Start;
      return this.#disruptions.some(({ worker, from, to }) => (worker ?? first.worker) === first.worker && from < second.at && to + aftermathMs > first.at);
    });
  }
}
