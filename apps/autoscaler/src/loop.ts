// One pool's loop: read what it is asked for, decide, act, tell. Of several autoscalers the one that has the pool's lease acts.
import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from '@millrace/process';
import type { KeyLease } from '@millrace/queue';
import { decide, type Decision, initialState, type Limits, type Reading, type State } from '@millrace/scaling';
import type { Actuator } from './actuator.ts';
import type { PoolMetrics } from './metrics.ts';

export interface PoolLoopOptions {
  readonly pool: string;
  readonly limits: Limits;
  readonly pollMs: number;
  readonly lease: KeyLease;
  readonly actuator: Actuator;
  /** What the pool is asked for now. */
  readonly read: () => Promise<Reading>;
  /** Tells who wants to know. */
  readonly publish: (decision: Decision) => Promise<void>;
  /** Resolves when something is queued, and after so long at the latest. */
  readonly untilArrival: (ms: number) => Promise<void>;
  readonly metrics: PoolMetrics;
  readonly log: Logger;
  /** Milliseconds of a clock that nobody sets. */
  readonly now: () => number;
}

export class PoolLoop {
  readonly #options: PoolLoopOptions;
  readonly #stopping = new AbortController();
  /** Undefined while another autoscaler acts. */
  #state: State | undefined;
  #leads = false;
  #arrival: Promise<void> | undefined;
  #running: Promise<void> | undefined;

  constructor(options: PoolLoopOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#running;
    // Where Redis is away, it ends by itself.
    if (this.#leads) await this.#options.lease.release().catch(() => {});
  }

  async #run(): Promise<void> {
    const { pool, log } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      await this.#turn().catch((error: unknown) => log.warn({ err: error, pool }, 'pool cannot be scaled now'));
      await this.#pause(signal);
    }
  }

  async #turn(): Promise<void> {
    const { pool, limits, actuator, read, publish, metrics, log, now } = this.#options;
    if (!await this.#lead()) {
      await actuator.standBy(pool);
      return;
    }
    const reading = await read().catch((error: unknown) => {
      log.warn({ err: error, pool }, 'demand cannot be read');
      return undefined;
    });
    const before = this.#state ?? initialState(await actuator.observed(pool), now());
    const decision = decide(before, reading, limits, now());
    this.#state = decision.state;
    // First, since acting may fail, and the next turn sees no change.
    metrics.decided(before.desired, decision.desired);
    if (decision.desired !== before.desired) log.info({ pool, from: before.desired, desired: decision.desired, reason: decision.reason, reading }, 'fleet is scaled');
    await publish(decision);
    await actuator.scale(pool, decision.desired);
  }

  /** Whether this process acts for the pool. */
  async #lead(): Promise<boolean> {
    const { pool, lease, metrics, log } = this.#options;
    const leads = this.#leads && await lease.extend() || await lease.take();
    if (leads !== this.#leads) log.info({ pool }, leads ? 'scales the pool' : 'another autoscaler scales the pool');
    if (!leads) this.#state = undefined;
    this.#leads = leads;
    metrics.leads(leads);
    return leads;
  }

  /** Until the next poll, or until something comes to a pool that has no worker. */
  async #pause(signal: AbortSignal): Promise<void> {
    const { pollMs, untilArrival } = this.#options;
    const pauses: Promise<unknown>[] = [delay(pollMs, undefined, { signal })];
    if (this.#state?.desired === 0) {
      this.#arrival ??= untilArrival(pollMs).finally(() => { this.#arrival = undefined; });
      pauses.push(this.#arrival);
    }
    await Promise.any(pauses).catch(() => { /* stopping */ });
  }
}
