// A pool in simulated time: rows arrive, replicas start, claim ahead, run micro-batches and drain, and a scaler decides at
// its own pace. Discrete events; the same traffic and phase give the same outcome.
import { type Lane, lanes } from '@millrace/protocol';
import Denque from 'denque';
import TinyQueue from 'tinyqueue';
import { Replica } from './replica.ts';
import type { Traffic } from './traffic.ts';

export interface PoolShape {
  readonly threadsPerReplica: number;
  readonly maxRows: number;
  /** What a micro-batch costs beside its rows. */
  readonly batchSeconds: number;
  /** Rows of a lane that a replica claims, those that run included. */
  readonly claimRows: number;
  readonly startSeconds: number;
  readonly replicas: number;
  readonly maxReplicas: number;
  /** Within which an online row should be served. */
  readonly targetSeconds: number;
}

/** What a scaler can see: figures that Redis, the workers' metrics or Kubernetes have. */
export interface View {
  readonly now: number;
  /** Rows that nobody has claimed: what LLEN of a list of single rows says. */
  readonly listed: Readonly<Record<Lane, number>>;
  /** Rows waiting and running. */
  readonly rows: Readonly<Record<Lane, number>>;
  /** Age of the oldest that nobody has claimed. */
  readonly oldestSeconds: Readonly<Record<Lane, number>>;
  /** Rows that ever arrived. */
  readonly arrived: Readonly<Record<Lane, number>>;
  /** Rows ever served, and what threads were busy with them. */
  readonly served: number;
  readonly busySeconds: number;
  readonly ready: number;
  readonly starting: number;
}

export interface Scaler {
  /** Seconds between two decisions. */
  readonly everySeconds: number;
  /** Replicas that there should be. */
  decide(view: View): number;
}

export interface Outcome {
  readonly rows: number;
  /** Online rows that were not served within the target. */
  readonly missed: number;
  /** From each replica's order to its end: what it costs. */
  readonly replicaSeconds: number;
  /** Changes of what was decided. */
  readonly scaleEvents: number;
  /** From the backfill's arrival to its last row; infinite where it is not done, 0 where there was none. */
  readonly bulkSeconds: number;
  readonly mostReplicas: number;
}

/** Plays the traffic; `phase` is when the scaler decides first, seconds. */
export function simulate(traffic: Traffic, pool: PoolShape, scaler: Scaler, phase: number): Outcome {
  const run = new Run(traffic, pool);
  let nextDecision = phase;
  for (;;) {
    const next = Math.min(run.nextAt(), nextDecision);
    if (next > traffic.seconds) return run.outcome();
    if (next < nextDecision) run.step();
    else {
      run.scaleTo(scaler.decide(run.view(nextDecision)), nextDecision);
      nextDecision += scaler.everySeconds;
    }
  }
}

type Event =
  | { readonly at: number; readonly kind: 'ready'; readonly replica: Replica }
  | { readonly at: number; readonly kind: 'done'; readonly replica: Replica; readonly lane: Lane; readonly rows: readonly number[]; readonly seconds: number };

class Run {
  readonly #traffic: Traffic;
  readonly #pool: PoolShape;
  readonly #agenda = new TinyQueue<Event>([], (a, b) => a.at - b.at);
  readonly #listed: Readonly<Record<Lane, Denque<number>>> = { online: new Denque(), bulk: new Denque() };
  readonly #rows = { online: 0, bulk: 0 };
  readonly #arrived = { online: 0, bulk: 0 };
  readonly #replicas = new Set<Replica>();
  #next = 0;
  #served = 0;
  #busySeconds = 0;
  #missed = 0;
  #replicaSeconds = 0;
  #scaleEvents = 0;
  #mostReplicas = 0;
  #desired: number;
  #bulkDoneAt = 0;

  constructor(traffic: Traffic, pool: PoolShape) {
    this.#traffic = traffic;
    this.#pool = pool;
    this.#desired = pool.replicas;
    for (let count = 0; count < pool.replicas; count++) this.#start(-pool.startSeconds, 0);
  }

  nextAt(): number {
    return Math.min(this.#nextArrivalAt(), this.#agenda.peek()?.at ?? Infinity);
  }

  step(): void {
    const event = this.#agenda.peek();
    if (!event || this.#nextArrivalAt() < event.at) {
      this.#arrive(this.#next++);
      return;
    }
    this.#agenda.pop();
    if (event.kind === 'done') this.#settle(event);
    else event.replica.isReady = true;
    this.#work(event.replica, event.at);
  }

  view(now: number): View {
    const alive = [...this.#replicas].filter(({ isDraining }) => !isDraining);
    const ready = alive.filter(({ isReady }) => isReady).length;
    const ofLanes = (figure: (lane: Lane) => number) => ({ online: figure('online'), bulk: figure('bulk') });
    const age = (row: number | undefined) => (row === undefined ? 0 : now - (this.#traffic.arrivesAt[row] as number));
    return {
      now,
      listed: ofLanes((lane) => this.#listed[lane].length),
      rows: { ...this.#rows },
      oldestSeconds: ofLanes((lane) => age(this.#listed[lane].peekFront())),
      arrived: { ...this.#arrived },
      served: this.#served,
      busySeconds: this.#busySeconds,
      ready,
      starting: alive.length - ready,
    };
  }

  scaleTo(wanted: number, now: number): void {
    const desired = Math.min(wanted, this.#pool.maxReplicas);
    if (desired !== this.#desired) this.#scaleEvents++;
    this.#desired = desired;
    const alive = [...this.#replicas].filter(({ isDraining }) => !isDraining);
    for (let count = alive.length; count < desired; count++) this.#start(now, now + this.#pool.startSeconds);
    // Those that still start go first, then the newest.
    const order = alive.toSorted((a, b) => Number(a.isReady) - Number(b.isReady) || b.startedAt - a.startedAt);
    for (const replica of order.slice(0, Math.max(0, alive.length - desired))) this.#drain(replica, now);
  }

  outcome(): Outcome {
    const { seconds, arrivesAt, lane } = this.#traffic;
    for (const replica of this.#replicas) this.#replicaSeconds += seconds - Math.max(0, replica.startedAt);
    const late = (row: number) => lane[row] === 'online' && seconds - (arrivesAt[row] as number) > this.#pool.targetSeconds;
    const unserved = [...this.#listed.online.toArray(), ...[...this.#replicas].flatMap((replica) => replica.held.online.toArray())];
    const bulkLandedAt = arrivesAt[lane.indexOf('bulk')] ?? 0;
    return {
      rows: this.#arrived.online,
      missed: this.#missed + unserved.filter(late).length,
      replicaSeconds: this.#replicaSeconds,
      scaleEvents: this.#scaleEvents,
      bulkSeconds: this.#rows.bulk > 0 ? Infinity : this.#bulkDoneAt - bulkLandedAt,
      mostReplicas: this.#mostReplicas,
    };
  }

  #nextArrivalAt(): number {
    return this.#traffic.arrivesAt[this.#next] ?? Infinity;
  }

  #start(startedAt: number, readyAt: number): void {
    const replica = new Replica(startedAt, this.#pool.threadsPerReplica);
    this.#replicas.add(replica);
    this.#mostReplicas = Math.max(this.#mostReplicas, this.#replicas.size);
    this.#agenda.push({ at: readyAt, kind: 'ready', replica });
  }

  #arrive(row: number): void {
    const lane = this.#traffic.lane[row] as Lane;
    this.#arrived[lane]++;
    this.#rows[lane]++;
    this.#listed[lane].push(row);
    const replica = this.#leastClaimed(lane);
    if (replica) this.#work(replica, this.#traffic.arrivesAt[row] as number);
  }

  /** Generous to every scaler: in truth whichever replica asks first gets it. */
  #leastClaimed(lane: Lane): Replica | undefined {
    let least: Replica | undefined;
    for (const replica of this.#replicas) {
      const mayClaim = replica.isReady && !replica.isDraining && replica.claimed[lane] < this.#pool.claimRows;
      if (mayClaim && (!least || replica.claimed[lane] < least.claimed[lane])) least = replica;
    }
    return least;
  }

  /** Claims what there is room for, and gives each free thread a micro-batch; online before bulk. */
  #work(replica: Replica, now: number): void {
    if (!replica.isReady || replica.isDraining) {
      if (replica.isDraining && replica.isIdle) this.#end(replica, now);
      return;
    }
    for (const lane of lanes) replica.claim(lane, this.#listed[lane], this.#pool.claimRows);
    for (let batch = replica.take(this.#pool.maxRows); batch; batch = replica.take(this.#pool.maxRows)) {
      const seconds = batch.rows.reduce((sum, row) => sum + (this.#traffic.workSeconds[row] as number), this.#pool.batchSeconds);
      this.#agenda.push({ at: now + seconds, kind: 'done', replica, ...batch, seconds });
    }
  }

  #settle({ at, replica, lane, rows, seconds }: Event & { kind: 'done' }): void {
    replica.done(lane, rows.length);
    this.#served += rows.length;
    this.#busySeconds += seconds;
    this.#rows[lane] -= rows.length;
    if (lane === 'bulk') this.#bulkDoneAt = at;
    else this.#missed += rows.filter((row) => at - (this.#traffic.arrivesAt[row] as number) > this.#pool.targetSeconds).length;
  }

  /** What runs is finished; what was claimed beside it goes back to the head of its list. */
  #drain(replica: Replica, now: number): void {
    replica.isDraining = true;
    for (const lane of lanes) for (const row of replica.handBack(lane).toReversed()) this.#listed[lane].unshift(row);
    if (replica.isIdle) this.#end(replica, now);
    for (const other of this.#replicas) this.#work(other, now);
  }

  #end(replica: Replica, now: number): void {
    // One that was taken away while it started becomes ready in the agenda all the same.
    if (!this.#replicas.delete(replica)) return;
    this.#replicaSeconds += now - Math.max(0, replica.startedAt);
  }
}
