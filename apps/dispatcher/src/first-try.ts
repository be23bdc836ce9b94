// A delivery that is tried before Redis knows of it: where its receiver answers at once, it is written down once, with what
// came of it, in place of three times. Until then, the entry of the results queue keeps it from being lost
// (docs/decisions/0010).
import { type ClaimedDelivery, type DeliveryRecord, type Finished, hostOf, type Lease, type UnwrittenDelivery } from '@millrace/queue';

export class FirstTry implements ClaimedDelivery {
  readonly record: DeliveryRecord;
  readonly body: string;
  readonly host: string;
  readonly #begun = Promise.withResolvers<void>();
  readonly #over = Promise.withResolvers<void>();
  #finished: Finished | undefined;
  #lease: Lease | undefined;

  constructor({ record, body }: UnwrittenDelivery) {
    this.record = record;
    this.body = body;
    this.host = hostOf(record);
  }

  get begun(): Promise<void> {
    return this.#begun.promise;
  }

  get over(): Promise<void> {
    return this.#over.promise;
  }

  get finished(): Finished | undefined {
    return this.#finished;
  }

  get isWritten(): boolean {
    return this.#lease !== undefined;
  }

  get lease(): string {
    return this.#lease?.lease ?? '';
  }

  get leaseEndsAt(): number {
    return this.#lease?.leaseEndsAt ?? Infinity;
  }

  begin(): void {
    this.#begun.resolve();
  }

  end(finished: Finished): void {
    this.#finished = finished;
    this.#begun.resolve();
    this.#over.resolve();
  }

  /** Without a lease it is another's, or will come again: what becomes of it here changes nothing. */
  written(lease: Lease = { lease: 'none', leaseEndsAt: 0 }): void {
    this.#lease = lease;
  }
}
