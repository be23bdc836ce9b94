// Work of tens of milliseconds on the thread that everybody's requests need: one piece after the other, and after each the
// thread is the others' for as long as it took. Done in one go, it would hold up everybody, until Redis' answers to the others
// were taken for late.
import { setTimeout as wait } from 'node:timers/promises';

export class FairShare {
  #last: Promise<unknown> = Promise.resolve();

  /** Does it when its turn has come. */
  async run<Result>(work: () => Result): Promise<Result> {
    const { promise, resolve } = Promise.withResolvers<void>();
    const before = this.#last;
    this.#last = promise;
    await before;
    const began = performance.now();
    try {
      return work();
    } finally {
      void wait(performance.now() - began).then(resolve);
    }
  }
}
