// New deliveries: tried at once where their hosts take them, and written down with what came of it.
import { type DeliveryStore, hostOf, type NewDelivery, type UnwrittenDelivery, unwrittenOf } from '@millrace/queue';
import type { Courier } from './courier.ts';
import { FirstTry } from './first-try.ts';

/** What has not begun by then is due in Redis: others wait meanwhile. */
const beginMs = 25;
/** What has not ended by then is written down as it is: who needs longer costs a second write. */
const endMs = 100;

export class Newcomers {
  readonly #courier: Courier;
  readonly #deliveries: DeliveryStore;
  #turn: Promise<void> = Promise.resolve();

  constructor(courier: Courier, deliveries: DeliveryStore) {
    this.#courier = courier;
    this.#deliveries = deliveries;
  }

  /**
   * Resolves when others may follow: hosts that take all they are sent are not sent more than that, by way of Redis. `written`
   * resolves when all of them are in Redis; where it rejects, some may have arrived nevertheless.
   */
  async tell(wanted: readonly NewDelivery[]): Promise<{ readonly written: Promise<void> }> {
    const before = this.#turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#turn = promise;
    await before;
    try {
      return { written: this.#write(await this.#try(wanted.map(unwrittenOf))) };
    } finally {
      resolve();
    }
  }

  /** Gives those that were begun, and the others. */
  async #try(all: readonly UnwrittenDelivery[]): Promise<{ readonly begun: readonly FirstTry[]; readonly others: readonly UnwrittenDelivery[] }> {
    const courier = this.#courier;
    const { tries = [], others = [] } = Object.groupBy(all, ({ record }) => (record.status === 'pending' && courier.mayTry(hostOf(record)) ? 'tries' : 'others'));
    const first = tries.map((one) => new FirstTry(one));
    courier.begin(first);
    await atMost(beginMs, first.map(({ begun }) => begun));
    const late = courier.takeBack(first);
    return { begun: first.filter((one) => !late.has(one)), others: [...others, ...late] };
  }

  async #write({ begun, others }: { readonly begun: readonly FirstTry[]; readonly others: readonly UnwrittenDelivery[] }): Promise<void> {
    await atMost(endMs, begun.map(({ over }) => over));
    const running = begun.filter(({ finished }) => !finished);
    try {
      const leases = await this.#deliveries.write([...others.map(({ record, body }) => ({ record, body })), ...begun.map(stateOf)]);
      for (const one of running) one.written(leases.get(one.record.id));
    } catch (error) {
      for (const one of running) one.written();
      throw error;
    }
    for (const { finished } of running) if (finished) this.#courier.end(finished);
    this.#courier.look(new Set(others.filter(({ record }) => record.status === 'pending').map(({ record }) => hostOf(record))));
  }
}

function stateOf({ record, body, finished }: FirstTry): UnwrittenDelivery {
  return finished ? { record: finished.record, body, waitMs: finished.waitMs } : { record, body, running: true };
}

/** Waits for all of them, but no longer than so many milliseconds. */
async function atMost(ms: number, promises: readonly Promise<void>[]): Promise<void> {
  if (promises.length === 0) return;
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([Promise.all(promises), late]);
  clearTimeout(timer);
}
