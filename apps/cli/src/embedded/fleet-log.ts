// What an autoscaler and its workers log, as the demo tells it: who is there, and what happens one after the other.
import type { ServiceLog } from '@millrace/process';

export interface FleetEvent {
  readonly kind: 'wanted' | 'ready' | 'died' | 'left';
  /** Name of the worker; how many are wanted and why. */
  readonly text: string;
}

export class FleetLog {
  /** Process ids of the workers that claim, by name. */
  readonly ready = new Map<string, number>();
  /** How many are wanted. */
  wanted = 0;
  #onEvent: (event: FleetEvent) => void = () => {};
  #looks: (() => void)[] = [];

  /** Who is told, from now on. */
  set onEvent(told: (event: FleetEvent) => void) {
    this.#onEvent = told;
  }

  readonly hear: ServiceLog = (worker, { msg, service, pid, desired, reason }) => {
    if (msg === 'fleet is scaled') this.#scaled(Number(desired), String(reason));
    else if (msg === 'ended unexpectedly, starting it again') this.#gone('died', worker);
    else if (msg === 'stopped' && service === 'worker') this.#gone('left', worker);
    else if (msg === 'worker is ready') {
      this.ready.set(worker, Number(pid));
      this.#happened({ kind: 'ready', text: worker });
    }
  };

  /** Resolves once the fleet is like this; false where it is not within `seconds`. */
  async until(isSo: (fleet: FleetLog) => boolean, seconds: number): Promise<boolean> {
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const look = () => { if (isSo(this)) resolve(true); };
    const timer = setTimeout(() => resolve(false), 1000 * seconds);
    this.#looks.push(look);
    look();
    return promise.finally(() => {
      clearTimeout(timer);
      this.#looks = this.#looks.filter((other) => other !== look);
    });
  }

  #scaled(desired: number, reason: string): void {
    this.wanted = desired;
    this.#happened({ kind: 'wanted', text: `${desired} (${reason})` });
  }

  #gone(kind: 'died' | 'left', worker: string): void {
    this.ready.delete(worker);
    this.#happened({ kind, text: worker });
  }

  #happened(event: FleetEvent): void {
    this.#onEvent(event);
    for (const look of this.#looks) look();
  }
}
