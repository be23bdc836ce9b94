// Predictions as the texts of answers. Large outputs take tens of milliseconds each, so they have a thread of their own: who
// asks for many of them at once would hold up everybody, until Redis' answers to the others were taken for late.
import { type Pending, presentPrediction, type PresentOptions, type ResultRecord } from '@millrace/protocol';
import { Piscina } from 'piscina';

/** Of a text that is made at once, the outputs have no more characters and elements than this; it takes two milliseconds or so. */
const largestInPlace = 32 * 1024;
/** The thread ends after this long without work, and with it what it holds of memory. */
const idleMs = 60_000;

export class Texts {
  readonly #thread = new Piscina<TextTask, string>({
    filename: new URL('./text-thread.ts', import.meta.url).href, minThreads: 0, maxThreads: 1, idleTimeout: idleMs,
  });

  stop(): Promise<void> {
    return this.#thread.destroy();
  }

  /** The prediction's resource as JSON. */
  async of(id: string, known: ResultRecord | Pending, options?: PresentOptions): Promise<string> {
    if (sizeOf(known) <= largestInPlace) return JSON.stringify(presentPrediction(id, known, options));
    return this.#thread.run([id, known, options]);
  }
}

/** What the thread is given. */
export type TextTask = Parameters<typeof presentPrediction>;

function sizeOf(known: ResultRecord | Pending): number {
  const outputs = 'outcome' in known ? Object.values(known.outputs ?? {}) : [];
  return outputs.reduce((sum, { data }) => sum + data.length, 0);
}
