// What the processes did and what was done to them, all on the clock of this process.
import type { ServiceLog } from '@millrace/process';
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
  readonly #listeners = new Set<ServiceLog>();
  readonly #keep: ServiceLog;
  /** Processes that have ended. */
  ends = 0;

  /** `keep` takes every line but those of micro-batches. */
  constructor(keep: ServiceLog) {
    this.#keep = keep;
  }

  /** To be told of every log line. */
  readonly hear: ServiceLog = (service, fields) => {
    if (fields['msg'] !== 'micro-batch runs') this.#keep(service, fields);
    else for (const id of fields['pieces'] as string[]) this.startsOf(id).push({ worker: service, at: performance.now() });
    if (String(fields['msg']).startsWith('ended unexpectedly')) this.ends++;
    for (const listener of this.#listeners) listener(service, fields);
  };

  /** The next message of a service that begins like this, of this model where one is named. */
  next(service: string, beginning: string, model?: string): Promise<string> {
    const { promise, resolve } = Promise.withResolvers<string>();
    const listener: ServiceLog = (from, { msg, model: its }) => {
      const message = String(msg);
      if (from === service && message.startsWith(beginning) && (model === undefined || its === model)) resolve(message);
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

  /** Predictions that ran more than once, and the story of those for which no disruption accounts. */
  doubles(): { readonly count: number; readonly unexplained: string[] } {
    const doubled = [...this.#starts].filter(([, starts]) => starts.length > 1);
    const unexplained = doubled.filter(([, starts]) => !this.#explains(starts)).map(([id, starts]) =>
      `${id} (${starts.map(({ worker, at }) => `${worker} at ${(at / 1000).toFixed(1)} s`).join(', ')})`);
    return { count: doubled.length, unexplained };
  }

  /** Between one start and the next, something must have happened to one of the two workers. */
  #explains(starts: readonly Start[]): boolean {
    return starts.slice(1).every((second, index) => {
      const first = starts[index] as Start;
      return this.#disruptions.some(({ worker, from, to }) =>
        (worker === undefined || worker === first.worker || worker === second.worker) && from < second.at && to + aftermathMs > first.at);
    });
  }
}
