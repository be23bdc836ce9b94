// Carries deliveries out: tries new ones at once, claims what is due for each host, as much as the host may be sent at once, and
// writes down what came of it. A host that does not answer is left alone, and delays nobody else.
import { type AttemptResult, Breaker, hostFailed, nextAttemptMs, verdictOf } from '@millrace/delivery';
import { type Logger, traceField } from '@millrace/process';
import { type Attempt, type ClaimedDelivery, type DeliveryRecord, type DeliveryStore, type EndpointStore, type Finished, hostOf, type KnownEndpoint } from '@millrace/queue';
import { HealthKeeper } from './endpoint-health.ts';
import { FirstTry } from './first-try.ts';
import type { DispatcherMetrics } from './metrics.ts';
import type { Postbox } from './postbox.ts';

export interface CourierOptions {
  readonly deliveries: DeliveryStore;
  readonly endpoints: EndpointStore;
  readonly postbox: Postbox;
  readonly metrics: DispatcherMetrics;
  readonly log: Logger;
  readonly delaysMs: readonly number[];
  readonly perHost: number;
  readonly timeoutMs: number;
  readonly disableMs: number;
  /** What a host has not taken after so long is given up. */
  readonly longestMs: number;
}

/** What one host is being sent. */
interface Lane {
  readonly host: string;
  readonly breaker: Breaker;
  /** New and not begun. */
  readonly fresh: FirstTry[];
  /** Claimed and not begun. */
  readonly claimed: ClaimedDelivery[];
  /** Attempts ever begun. */
  begun: number;
  running: number;
  claiming: boolean;
  /** Whether Redis may hold more that is due. */
  more: boolean;
  /** How many are claimed ahead: the host is not idle while Redis is asked for more. */
  ahead: number;
  /** Attempts that have ended since `ahead` was set. */
  ended: number;
  /** When the last one did. */
  endedAt: number;
  usedAt: number;
}

const pollMs = 500;
const hostsPerPoll = 1000;
/** Attempts under way at all hosts together. */
const mostRunning = 1024;
/** Claimed ahead for each attempt that a host may have; more where it takes more between two looks. */
const claimAhead = 4;
const mostAhead = 2048;
/** A host that takes so many between two looks begins what one turn of new ones has within `movesMs`. */
const fastAhead = 1024;
/** A host that takes all it can be sent has ended an attempt within this time: it will soon take more. */
const movesMs = 25;
/** Lanes of hosts that were not used for so long are forgotten, and with them that they failed. */
const forgottenMs = 900_000;
const marginMs = 5000;

/** For an attempt, and for as long again that what is claimed ahead waits for its turn, whatever the process is held up with. */
export function leaseMsFor(timeoutMs: number): number {
  return 3 * (timeoutMs + marginMs);
}

export class Courier {
  readonly #options: CourierOptions;
  readonly #health: HealthKeeper;
  readonly #lanes = new Map<string, Lane>();
  /** Hosts that wait because too many attempts run. */
  readonly #crowded = new Set<Lane>();
  #running = 0;
  /** How many due hosts the last look has passed over. */
  #passed = 0;
  #ended: Finished[] = [];
  #writing: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #stopping = false;
  readonly #idle = Promise.withResolvers<void>();

  constructor(options: CourierOptions) {
    this.#options = options;
    const { endpoints, deliveries, postbox, disableMs, log } = options;
    this.#health = new HealthKeeper({
      endpoints, disableMs, log,
      onChange: (tenant) => postbox.forget(tenant),
      deliver: async (wanted) => this.look((await deliveries.add(wanted)).map(hostOf)),
    });
  }

  get running(): number {
    return this.#running;
  }

  get openBreakers(): number {
    return [...this.#lanes.values()].filter(({ breaker }) => breaker.openUntil !== undefined).length;
  }

  start(): void {
    void this.#poll();
  }

  /** Begins nothing more; resolves when what is under way has ended and is written down. What was claimed ahead is given back. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#timer);
    for (const lane of this.#lanes.values()) this.#giveBack(lane);
    if (this.#running > 0) await this.#idle.promise;
    while (this.#ended.length > 0 || this.#writing) await this.#write();
  }

  /**
   * Whether a new delivery may be tried before it is written down: where its host stands still it would wait, and older ones
   * go first but where so many are taken that these hardly wait for each other.
   */
  mayTry(host: string): boolean {
    const { more, claiming, breaker, running, endedAt, ahead } = this.#laneOf(host);
    const moves = running < this.#options.perHost || performance.now() - endedAt < movesMs;
    return moves && (!(more || claiming) || ahead >= fastAhead) && !this.#stopping && breaker.openUntil === undefined;
  }

  /** Tries these as soon as their hosts have room. */
  begin(tries: readonly FirstTry[]): void {
    for (const one of tries) this.#laneOf(one.host).fresh.push(one);
    for (const host of new Set(tries.map(({ host }) => host))) this.#pump(this.#laneOf(host));
  }

  /** Takes back those that have not begun, and gives them. */
  takeBack(tries: readonly FirstTry[]): Set<FirstTry> {
    const asked = new Set(tries);
    const back = new Set<FirstTry>();
    for (const host of new Set(tries.map(({ host }) => host))) {
      const { fresh } = this.#laneOf(host);
      for (const one of fresh.splice(0)) {
        if (asked.has(one)) back.add(one);
        else fresh.push(one);
      }
    }
    return back;
  }

  /** Writes down the end of an attempt. */
  end(finished: Finished): void {
    this.#ended.push(finished);
    if (!this.#writing) void this.#write();
  }

  /** Something is due for these hosts. */
  look(hosts: Iterable<string>): void {
    for (const host of hosts) {
      const lane = this.#laneOf(host);
      lane.more = true;
      if (!this.#stopping) this.#pump(lane);
    }
  }

  async #poll(): Promise<void> {
    this.#measure();
    try {
      const hosts = await this.#options.deliveries.dueHosts(this.#passed, hostsPerPoll);
      // Where there are more than one look sees, the next one sees others.
      this.#passed = hosts.length === hostsPerPoll ? this.#passed + hostsPerPoll : 0;
      this.look(hosts);
    } catch (error) {
      this.#options.log.warn({ err: error }, 'due deliveries cannot be read');
    }
    if (!this.#stopping) this.#timer = setTimeout(() => { void this.#poll(); }, pollMs);
  }

  /** Sees what each host has taken since the last time, and forgets those that had nothing to do for long. */
  #measure(): void {
    const before = performance.now() - forgottenMs;
    for (const [host, lane] of this.#lanes) {
      lane.ahead = Math.max(claimAhead * this.#options.perHost, Math.min(mostAhead, lane.ended));
      lane.ended = 0;
      if (lane.running === 0 && lane.fresh.length === 0 && lane.claimed.length === 0 && !lane.claiming && lane.usedAt < before) this.#lanes.delete(host);
    }
  }

  #laneOf(host: string): Lane {
    let lane = this.#lanes.get(host);
    if (!lane) {
      lane = { host, breaker: new Breaker(), fresh: [], claimed: [], begun: 0, running: 0, claiming: false, more: false, ahead: claimAhead * this.#options.perHost, ended: 0, endedAt: -Infinity, usedAt: 0 };
      this.#lanes.set(host, lane);
    }
    lane.usedAt = performance.now();
    return lane;
  }

  /** Begins what may begin, and claims more in time. */
  #pump(lane: Lane): void {
    const { perHost, timeoutMs } = this.#options;
    const { claimed, breaker } = lane;
    for (let queue = nextQueue(lane); queue && lane.running < perHost && !this.#stopping; queue = nextQueue(lane)) {
      if (this.#running >= mostRunning) return void this.#crowded.add(lane);
      const now = performance.now();
      // One that would outlast its lease is left to whoever claims it then.
      if ((queue[0] as ClaimedDelivery).leaseEndsAt < now + timeoutMs + marginMs) queue.shift();
      else if (breaker.mayStart(now)) void this.#carry(lane, queue.shift() as ClaimedDelivery);
      else return this.#giveBack(lane);
    }
    if (lane.more && !lane.claiming && !this.#stopping && claimed.length <= lane.ahead / 2) void this.#claim(lane);
  }

  async #claim(lane: Lane): Promise<void> {
    const { breaker, host } = lane;
    const openMs = (breaker.openUntil ?? 0) - performance.now();
    // Whether it is closed or one probe may start: not asked for here, for who asks has the probe.
    if (openMs > 0) return;
    // One is the probe; the others are looked through for what has waited too long.
    const count = breaker.openUntil === undefined ? lane.ahead - lane.claimed.length : claimAhead * this.#options.perHost;
    lane.claiming = true;
    // What becomes due while Redis is asked makes it true again.
    lane.more = false;
    try {
      const claimed = await this.#options.deliveries.claim(host, count);
      lane.more ||= claimed.length === count;
      lane.claimed.push(...claimed);
    } catch (error) {
      this.#options.log.warn({ err: error }, 'deliveries cannot be claimed');
    } finally {
      lane.claiming = false;
    }
    if (this.#stopping) this.#giveBack(lane);
    else this.#pump(lane);
  }

  /** Tries one delivery and decides what becomes of it. */
  async #carry(lane: Lane, claimed: ClaimedDelivery): Promise<void> {
    const { postbox, log, metrics } = this.#options;
    this.#running++;
    lane.running++;
    lane.begun++;
    if (claimed instanceof FirstTry) claimed.begin();
    const at = Date.now();
    try {
      const outcome = await postbox.send(claimed);
      switch (outcome.kind) {
        case 'tried':
          metrics.attempted(outcome.result);
          this.#judge(lane, outcome.result);
          await this.#settle(claimed, at, outcome.result, outcome.endpoint);
          break;
        case 'moved':
          lane.breaker.released(performance.now());
          this.#end(claimed, { ...claimed.record, target: { ...claimed.record.target, kind: 'webhook', url: outcome.url } }, 0);
          break;
        case 'pointless':
          lane.breaker.released(performance.now());
          this.#giveUp(claimed, outcome.reason);
          break;
        default: outcome satisfies never;
      }
    } catch (error) {
      lane.breaker.released(performance.now());
      // Its lease ends, and it is tried again.
      const { id: deliveryId, predictionId, backfillId, eventId, tenant, trace } = claimed.record;
      log.warn({ err: error, deliveryId, predictionId, backfillId, eventId, tenant, ...traceField(trace) }, 'delivery was given up here');
    }
    lane.running--;
    lane.ended++;
    lane.endedAt = performance.now();
    this.#running--;
    if (this.#stopping) {
      if (this.#running === 0) this.#idle.resolve();
      return;
    }
    // Whoever waits longest for a place has this one.
    const [crowded] = this.#crowded;
    if (crowded) {
      this.#crowded.delete(crowded);
      this.#pump(crowded);
    }
    this.#pump(lane);
  }

  /** What a result says of the host. */
  #judge({ breaker, host }: Lane, result: AttemptResult): void {
    const { deliveries, log } = this.#options;
    const before = breaker.openUntil;
    const now = performance.now();
    if (hostFailed(result)) breaker.failed(now);
    else breaker.succeeded(now);
    const until = breaker.openUntil;
    if (until === undefined || until === before || until <= now) return;
    log.info({ host, seconds: Math.round((until - now) / 1000) }, 'host does not answer and is left alone');
    deliveries.hold(host, until - now).catch((error: unknown) => log.warn({ err: error }, 'hold cannot be written'));
  }

  async #settle(claimed: ClaimedDelivery, at: number, result: AttemptResult, endpoint: KnownEndpoint | undefined): Promise<void> {
    const { delaysMs } = this.#options;
    const verdict = verdictOf(result);
    const tries = claimed.record.tries + 1;
    const record: DeliveryRecord = { ...claimed.record, tries, nextAttemptAt: undefined, attempts: [...claimed.record.attempts, attemptOf(at, result)] };
    const waitMs = verdict === 'retry' ? nextAttemptMs({ delaysMs, attempts: tries, retryAfterMs: retryAfterOf(result), random: Math.random }) : undefined;
    // Before the end of the attempt is written: whoever dies in between tries again, and comes here again.
    if (endpoint && claimed.record.event !== 'endpoint.test') await this.#health.note(endpoint, record, verdict);
    if (verdict === 'delivered') this.#end(claimed, { ...record, status: 'delivered' });
    else if (waitMs !== undefined) this.#end(claimed, { ...record, nextAttemptAt: Date.now() + waitMs }, waitMs);
    else this.#end(claimed, { ...record, status: 'dead', reason: verdict === 'gone' ? 'The receiver answered 410 Gone' : 'All attempts have failed' });
  }

  /** What was claimed ahead may be claimed again at once, but for what has waited too long for its host. */
  #giveBack({ fresh, claimed }: Lane): void {
    const before = Date.now() - this.#options.longestMs;
    for (const delivery of [...fresh.splice(0), ...claimed.splice(0)]) {
      if (delivery.record.createdAt < before && !this.#stopping) this.#giveUp(delivery, 'The host did not answer for too long');
      else this.#end(delivery, delivery.record, 0);
    }
  }

  #giveUp(claimed: ClaimedDelivery, reason: string): void {
    this.#end(claimed, { ...claimed.record, status: 'dead', reason, nextAttemptAt: undefined });
  }

  #end(claimed: ClaimedDelivery, record: DeliveryRecord, waitMs?: number): void {
    if (record.status !== 'pending') this.#options.metrics.ended(record, Date.now());
    const finished = { claimed, record, waitMs };
    if (claimed instanceof FirstTry && !claimed.isWritten) claimed.end(finished);
    else this.end(finished);
  }

  /** Writes what has ended, together: one call is under way at a time. */
  #write(): Promise<void> {
    return this.#writing ??= this.#writeAll().finally(() => { this.#writing = undefined; });
  }

  async #writeAll(): Promise<void> {
    while (this.#ended.length > 0) {
      const ended = this.#ended;
      this.#ended = [];
      try {
        await this.#options.deliveries.finish(ended);
      } catch (error) {
        // Their leases end, and they are tried again.
        this.#options.log.warn({ err: error, deliveries: ended.length }, 'attempts cannot be written down');
      }
    }
  }
}

/** New ones and claimed ones in turn, so that neither wait for the other; undefined where there are none. */
function nextQueue({ fresh, claimed, begun }: Lane): ClaimedDelivery[] | undefined {
  const queues = begun % 2 === 0 ? [fresh, claimed] : [claimed, fresh];
  return queues.find(({ length }) => length > 0);
}

function attemptOf(at: number, result: AttemptResult): Attempt {
  const durationMs = Math.round(result.durationMs * 10) / 10;
  switch (result.kind) {
    case 'answered': return { at, durationMs, status: result.status, ...(result.excerpt !== '' && { excerpt: result.excerpt }) };
    case 'refused':
    case 'failed': return { at, durationMs, error: result.reason };
    default: return result satisfies never;
  }
}

function retryAfterOf(result: AttemptResult): number | undefined {
  return result.kind === 'answered' ? result.retryAfterMs : undefined;
}
