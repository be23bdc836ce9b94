// Workers of this machine, as children of this process: as many as are wanted, started again when they die, drained when there
// are too many.
import { Service, type ServiceLog, type ServiceState } from '@millrace/process';
import type { Actuator } from './actuator.ts';

export interface SupervisorOptions {
  /** Arguments of a worker's Node process. */
  readonly args: readonly string[];
  /** Its environment, but for its pool. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** How long one may take to drain before it is killed. */
  readonly graceMs: number;
  /** When one hangs, and is killed and started again. */
  readonly hung: { readonly startMs: number; readonly silentMs: number };
  /** Takes every line of the workers, and what is to be said of them. */
  readonly onLog: ServiceLog;
  /** A worker of the pool has ended by itself. */
  readonly onRestart: (pool: string) => void;
}

/** Which one goes first where there are too many: what serves nobody yet costs least. */
const firstToGo: readonly ServiceState[] = ['waiting', 'silent', 'starting', 'ready'];

export class Supervisor implements Actuator {
  readonly #options: SupervisorOptions;
  readonly #fleets = new Map<string, Fleet>();

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  observed(pool: string): Promise<number> {
    return Promise.resolve(this.#fleet(pool).running);
  }

  scale(pool: string, desired: number): Promise<void> {
    this.#fleet(pool).scale(desired);
    return Promise.resolve();
  }

  /** The other one has workers of its own, wherever that is. */
  standBy(pool: string): Promise<void> {
    return this.scale(pool, 0);
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#fleets.values()].map((fleet) => fleet.stop()));
  }

  /** Workers by pool and state, those that drain included. */
  states(): { readonly pool: string; readonly state: ServiceState }[] {
    return [...this.#fleets].flatMap(([pool, fleet]) => fleet.states().map((state) => ({ pool, state })));
  }

  #fleet(pool: string): Fleet {
    let fleet = this.#fleets.get(pool);
    if (!fleet) this.#fleets.set(pool, fleet = new Fleet(pool, this.#options));
    return fleet;
  }
}

/** The workers of one pool. */
class Fleet {
  readonly #pool: string;
  readonly #options: SupervisorOptions;
  /** The oldest first. */
  readonly #running: Service[] = [];
  /** What has been told to end, and its end. */
  readonly #draining = new Map<Service, Promise<void>>();
  #desired = 0;

  constructor(pool: string, options: SupervisorOptions) {
    this.#pool = pool;
    this.#options = options;
  }

  get running(): number {
    return this.#running.length;
  }

  states(): ServiceState[] {
    return [...this.#running, ...this.#draining.keys()].map(({ state }) => state);
  }

  /** One that drains counts until it is gone: there are never more processes than were wanted when the last one was started. */
  scale(desired: number): void {
    this.#desired = desired;
    while (this.#running.length > desired) this.#drainOne();
    while (this.#running.length + this.#draining.size < desired) this.#startOne();
  }

  async stop(): Promise<void> {
    this.scale(0);
    await Promise.all(this.#draining.values());
  }

  #startOne(): void {
    const { env, onRestart, ...rest } = this.#options;
    const service = new Service({
      ...rest, name: this.#freeName(), env: { ...env, MILLRACE_POOL: this.#pool }, readyMessage: 'worker is ready', onRestart: () => onRestart(this.#pool),
    });
    this.#running.push(service);
    service.keep();
  }

  #drainOne(): void {
    const ranks = this.#running.map(({ state }) => firstToGo.indexOf(state));
    // Of those alike, the newest.
    const [service] = this.#running.splice(ranks.lastIndexOf(Math.min(...ranks)), 1) as [Service];
    this.#draining.set(service, service.stop().finally(() => {
      this.#draining.delete(service);
      this.scale(this.#desired);
    }));
  }

  #freeName(): string {
    const taken = new Set([...this.#running, ...this.#draining.keys()].map(({ name }) => name));
    const names = Array.from({ length: taken.size + 1 }, (_, index) => `${this.#pool} worker ${index + 1}`);
    return names.find((name) => !taken.has(name)) as string;
  }
}
