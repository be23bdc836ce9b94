// Webhooks on their whole way: predictions with a `webhook` of their own are posted over HTTP, run, and told to a receiver in
// a process of its own. They are posted in batches, as by somebody who has many. Rates: as fast as deliveries arrive, and
// of a results queue that is full while nothing else is to do, both against a bare loop of the HTTP client. Lateness: at a
// steady pace to many hosts, all alive, and then one in ten of them dead.
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { eventId, type PredictionBatch } from '@millrace/protocol';
import { connect, type DeliveryRecord, readDemand, type Redis } from '@millrace/queue';
import { Agent } from 'undici';
import { startSystem, type System } from '../../apps/cli/src/embedded/system.ts';
import { randomOf } from '../integration/random.ts';
import type { BareTask } from './bare-deliveries.ts';
import { TaskProcess } from './children.ts';
import { percentile, round } from './figures.ts';
import type { Count, ReceiverTask } from './webhook-receiver.ts';

export interface WebhookFigures {
  /** From the posted prediction to the receiver. */
  readonly deliveries_per_second: number;
  /** From the results queue to the receiver: the predictions are settled already. */
  readonly drained_per_second: number;
  readonly bare_deliveries_per_second: number;
  readonly deliveries_ratio: number;
  readonly drained_ratio: number;
  /** From a prediction's end to its webhook's arrival, all hosts alive, and at those alive while others are dead. */
  readonly p99_ms: number;
  readonly p99_ms_with_dead_hosts: number;
  readonly healthy_p99_ratio: number;
  readonly lost: number;
  readonly doubled: number;
}

export interface WebhookOptions {
  readonly quick: boolean;
  readonly redisServer: string | undefined;
  readonly show: (text: string) => void;
}

const models = fileURLToPath(new URL('../../deploy/models', import.meta.url));
const batch = 250;
/** Accepted and not arrived: enough that nobody waits for work, and little beside what is measured. */
const mostToCome = 2000;
const lookMs = 25;
const postsAtOnce = 8;
/** The dispatcher's own, docs/05-operations.md. */
const atOnce = 8;
/** Well below what two cores can do, so that lateness is that of the way and not of a queue. */
const pacePerSecond = 400;

/** Addresses of the loopback network: each is a host. */
const hosts = (net: number, count: number) => Array.from({ length: count }, (_, index) => `127.0.${net}.${index + 1}`);
const alwaysAlive = hosts(1, 45);
const others = hosts(2, 5);
const hanging = hosts(3, 2);
const dripping = hosts(4, 1);
/** Nobody listens there. */
const refusing = hosts(5, 2);

/** Seconds of each measurement, and how many are drained; `bare` is taken before and after the whole way. */
function extent(quick: boolean) {
  return quick ? { rounds: 3, warmUp: 4, rate: 2, drained: 10_000, bare: 0.8, lateness: 3 } : { rounds: 5, warmUp: 15, rate: 8, drained: 50_000, bare: 2, lateness: 15 };
}

export async function webhooks({ quick, redisServer, show }: WebhookOptions): Promise<WebhookFigures> {
  const rig = await setUp(redisServer);
  try {
    const amount = extent(quick);
    const scale = new Scale(rig);
    show(`Webhooks, ${amount.rounds} rounds, Node ${process.version}\n`);
    await scale.warmUp(amount.warmUp);
    for (let round = 0; round < amount.rounds; round++) {
      await scale.round(amount);
      show(`  round ${round + 1}: ${scale.lastRound()}\n`);
    }
    const figures = await scale.figures();
    show(table(figures));
    return figures;
  } finally {
    rig.receiver.stop();
    rig.bare.stop();
    rig.redis.disconnect();
    await rig.agent.close();
    await rig.system.stop();
  }
}

interface Rig {
  readonly system: System;
  readonly redis: Redis;
  readonly agent: Agent;
  readonly receiver: TaskProcess<ReceiverTask, unknown>;
  readonly bare: TaskProcess<BareTask, number>;
  /** Where all the hosts listen. */
  readonly port: number;
}

async function setUp(redisServer: string | undefined): Promise<Rig> {
  const receiver = await TaskProcess.start<ReceiverTask, unknown>('webhook-receiver.ts');
  const port = await receiver.do({ kind: 'open', healthy: [...alwaysAlive, ...others], hanging, dripping }) as number;
  const system = await startSystem({
    redisServer, models, port: 0, workers: 1,
    env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' },
    onLog: (service, fields) => { if (['warn', 'error', 'fatal'].includes(String(fields['level']))) console.error(service, fields); },
  });
  return { system, redis: connect({ redisUrl: system.redisUrl }, 'worker', (error) => console.error(error)), agent: new Agent(), receiver, bare: await TaskProcess.start('bare-deliveries.ts'), port };
}

type Series = 'deliveries_per_second' | 'drained_per_second' | 'bare_deliveries_per_second' | 'deliveries_ratio' | 'drained_ratio' | 'p99_ms' | 'p99_ms_with_dead_hosts' | 'healthy_p99_ratio';

/** Takes the measurements and counts what came of every prediction that was accepted. */
class Scale {
  readonly #rig: Rig;
  readonly #series = new Map<Series, number[]>();
  readonly #random = randomOf(1);
  /** Ids of events that must arrive and have not been seen to. */
  #awaited: string[] = [];
  #accepted = 0;
  readonly #answers: { readonly to: readonly string[]; readonly text: string }[] = [];

  constructor(rig: Rig) {
    this.#rig = rig;
  }

  async warmUp(seconds: number): Promise<void> {
    await this.#deliveriesPerSecond(seconds);
    await this.#bareDeliveriesPerSecond(1);
    await this.#lateness([...alwaysAlive, ...others], 1);
  }

  async round({ rate, drained, bare, lateness }: ReturnType<typeof extent>): Promise<void> {
    const before = await this.#bareDeliveriesPerSecond(bare);
    const through = await this.#deliveriesPerSecond(rate);
    const drain = await this.#drainedPerSecond(drained);
    const without = (before + await this.#bareDeliveriesPerSecond(bare)) / 2;
    this.#note('deliveries_per_second', through);
    this.#note('drained_per_second', drain);
    this.#note('bare_deliveries_per_second', without);
    this.#note('deliveries_ratio', through / without);
    this.#note('drained_ratio', drain / without);
    const calm = percentile(await this.#lateness([...alwaysAlive, ...others], lateness), 0.99);
    const disturbed = percentile(await this.#lateness([...alwaysAlive, ...hanging, ...dripping, ...refusing], lateness), 0.99);
    this.#note('p99_ms', calm);
    this.#note('p99_ms_with_dead_hosts', disturbed);
    this.#note('healthy_p99_ratio', disturbed / calm);
  }

  lastRound(): string {
    const last = (name: Series, digits = 0) => (this.#series.get(name)?.at(-1) ?? NaN).toFixed(digits);
    return `${last('deliveries_per_second')}/s, drained ${last('drained_per_second')}/s, bare ${last('bare_deliveries_per_second')}/s, p99 ${last('p99_ms', 1)} ms, with dead hosts ${last('p99_ms_with_dead_hosts', 1)} ms`;
  }

  async figures(): Promise<WebhookFigures> {
    const medians = Object.fromEntries([...this.#series].map(([name, values]) => [name, round(percentile(values, 0.5))])) as Record<Series, number>;
    const { repeated } = await this.#count();
    return {
      ...medians,
      lost: this.#awaited.length + await this.#notWrittenDown(),
      doubled: repeated,
    };
  }

  /** Posts as fast as deliveries arrive, so that no queue grows; counts the arrivals of the last `seconds`. */
  async #deliveriesPerSecond(seconds: number): Promise<number> {
    const { arrived: before } = await this.#count();
    const to = Array.from({ length: batch }, () => alwaysAlive[0] as string);
    const posting = new Set<Promise<unknown>>();
    let [posted, arrived] = [0, 0];
    const keepPosting = async (forSeconds: number) => {
      for (const startedAt = performance.now(); performance.now() < startedAt + 1000 * forSeconds; await delay(lookMs)) {
        ({ arrived } = await this.#count());
        for (; posted - (arrived - before) < mostToCome; posted += batch) {
          const post = this.#post(to);
          posting.add(post);
          void post.finally(() => posting.delete(post));
        }
      }
      return { arrived, at: performance.now() };
    };
    const from = await keepPosting(1);
    const end = await keepPosting(seconds);
    await Promise.all(posting);
    await this.#untilArrived();
    return (end.arrived - from.arrived) / ((end.at - from.at) / 1000);
  }

  /** Lets so many be settled while the dispatcher is stopped, and then go on; all that arrive are counted. */
  async #drainedPerSecond(count: number): Promise<number> {
    const { redis, system } = this.#rig;
    const { arrived: before } = await this.#count();
    const dispatcher = system.dispatcher?.pid as number;
    const to = Array.from({ length: batch }, () => alwaysAlive[0] as string);
    process.kill(dispatcher, 'SIGSTOP');
    for (let posted = 0; posted < count; posted += postsAtOnce * batch) await Promise.all(Array.from({ length: postsAtOnce }, () => this.#post(to)));
    while ((await readDemand(redis, 'default')).lanes.online.rows > 0) await delay(lookMs);
    process.kill(dispatcher, 'SIGCONT');
    const startedAt = performance.now();
    while ((await this.#count()).arrived - before < count) await delay(lookMs);
    const rate = count / ((performance.now() - startedAt) / 1000);
    await this.#untilArrived();
    return rate;
  }

  async #bareDeliveriesPerSecond(seconds: number): Promise<number> {
    const { body } = await this.#count();
    return this.#rig.bare.do({ url: this.#urlOf(alwaysAlive[0] as string), body, atOnce, ms: 1000 * seconds });
  }

  /** Posts to one host after the other at random moments, however those before fare; the milliseconds from event to arrival at those that are alive in every round. */
  async #lateness(to: readonly string[], seconds: number): Promise<number[]> {
    await this.#rig.receiver.do({ kind: 'note lateness' });
    const posts: Promise<void>[] = [];
    const startedAt = performance.now();
    for (let dueAt = startedAt; dueAt < startedAt + 1000 * seconds; dueAt -= Math.log(1 - this.#random()) * 1000 / pacePerSecond) {
      const early = dueAt - performance.now();
      if (early > 0) await delay(early);
      posts.push(this.#post([to[posts.length % to.length] as string]));
    }
    await Promise.all(posts);
    await this.#untilArrived();
    return this.#rig.receiver.do({ kind: 'lateness', addresses: alwaysAlive }) as Promise<number[]>;
  }

  /** One prediction for each of these hosts. */
  async #post(to: readonly string[]): Promise<void> {
    const { system, agent } = this.#rig;
    const requests = to.map((host) => ({ model: 'iris', inputs: [[5.1, 3.5, 1.4, 0.2]], webhook: { url: this.#urlOf(host) } }));
    const { statusCode, body } = await agent.request({
      origin: system.url, path: '/api/v1/predictions:batch', method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ requests }),
    });
    const text = await body.text();
    if (statusCode !== 202 || !text.startsWith(`{"accepted":${to.length},`)) throw new Error(`not all were accepted: ${statusCode} ${text.slice(0, 500)}`);
    this.#accepted += to.length;
    this.#answers.push({ to, text });
  }

  /** Reads the answers: not while anything is measured. */
  #readAnswers(): void {
    for (const { to, text } of this.#answers.splice(0)) {
      const { results } = JSON.parse(text) as PredictionBatch;
      for (const { index, prediction } of results) {
        if (isAlive(to[index] as string)) this.#awaited.push(eventId(prediction?.id ?? '', 'prediction.completed'));
      }
    }
  }

  async #untilArrived(): Promise<void> {
    this.#readAnswers();
    for (const deadline = performance.now() + 60_000; this.#awaited.length > 0 && performance.now() < deadline; await delay(5)) {
      this.#awaited = await this.#rig.receiver.do({ kind: 'missing', ids: this.#awaited }) as string[];
    }
  }

  /** Deliveries to living hosts whose record does not say, in the end, that they were delivered. */
  async #notWrittenDown(): Promise<number> {
    const { redis } = this.#rig;
    const ids = await redis.zrange('millrace:{deliveries}:index:default', '0', '-1');
    let missing = 0;
    for (let at = 0; at < ids.length; at += 10_000) {
      const pipeline = redis.pipeline();
      for (const id of ids.slice(at, at + 10_000)) pipeline.hget(`millrace:{deliveries}:delivery:${id}`, 'state');
      const records = (await pipeline.exec() ?? []).map(([, state]) => JSON.parse(state as string) as DeliveryRecord);
      missing += records.filter(({ target, status }) => target.kind === 'webhook' && isAlive(new URL(target.url).hostname) && status !== 'delivered').length;
    }
    return missing + Math.max(0, this.#accepted - ids.length);
  }

  #count(): Promise<Count> {
    return this.#rig.receiver.do({ kind: 'count' }) as Promise<Count>;
  }

  #urlOf(host: string): string {
    return `http://${host}:${this.#rig.port}/hooks`;
  }

  #note(name: Series, value: number): void {
    const values = this.#series.get(name);
    if (values) values.push(value);
    else this.#series.set(name, [value]);
  }
}

function isAlive(host: string): boolean {
  return alwaysAlive.includes(host) || others.includes(host);
}

function table(figures: WebhookFigures): string {
  const row = (name: string, value: string, ratio = '') => `  ${name.padEnd(52)} ${value.padStart(12)}  ${ratio}\n`;
  return `\n${[
    row('deliveries/s, from the prediction to the receiver', figures.deliveries_per_second.toFixed(0), `${figures.deliveries_ratio.toFixed(2)} × bare`),
    row('deliveries/s of predictions that are settled already', figures.drained_per_second.toFixed(0), `${figures.drained_ratio.toFixed(2)} × bare`),
    row('bare loop of the same HTTP client, /s', figures.bare_deliveries_per_second.toFixed(0)),
    row('from the end to the arrival, p99 ms', figures.p99_ms.toFixed(1)),
    row('the same while one host in ten is dead, p99 ms', figures.p99_ms_with_dead_hosts.toFixed(1), `${figures.healthy_p99_ratio.toFixed(2)} × without`),
    row('lost', String(figures.lost)),
    row('doubled', String(figures.doubled)),
  ].join('')}\n`;
}
