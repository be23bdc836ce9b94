// A TCP proxy before Redis that can be slow, fall silent and cut connections.
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { freePort } from '../integration/free-port.ts';

interface Pair {
  readonly client: Socket;
  readonly redis: Socket;
  /** Both ends stay open, and what they send is thrown away: neither learns that the other is gone. */
  halfOpen: boolean;
}

export class Proxy {
  readonly port: number;
  /** What Redis sends arrives so much later. */
  latencyMs = 0;
  /** New connections are accepted and lead nowhere. */
  silent = false;
  readonly #target: number;
  readonly #server: Server;
  readonly #pairs = new Set<Pair>();
  #cutting = false;

  private constructor(port: number, target: number) {
    this.port = port;
    this.#target = target;
    this.#server = createServer({ noDelay: true }, (client) => this.#join(client));
  }

  static async start(target: number): Promise<Proxy> {
    const proxy = new Proxy(await freePort(), target);
    await new Promise<void>((resolve) => { proxy.#server.listen(proxy.port, '127.0.0.1', resolve); });
    return proxy;
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** The present connections are dead from now on, and nobody is told. */
  halfOpen(): void {
    for (const pair of this.#pairs) pair.halfOpen = true;
  }

  /** The next connection that sends or gets something is cut in the middle of it. */
  cut(): void {
    this.#cutting = true;
  }

  stop(): void {
    this.#server.close();
    for (const { client, redis } of this.#pairs) for (const socket of [client, redis]) socket.destroy();
  }

  #join(client: Socket): void {
    const pair = { client, redis: connect({ port: this.#target, host: '127.0.0.1', noDelay: true }), halfOpen: this.silent };
    this.#pairs.add(pair);
    const end = () => {
      client.destroy();
      pair.redis.destroy();
      this.#pairs.delete(pair);
    };
    for (const socket of [client, pair.redis]) socket.on('error', end).on('close', end);
    this.#forward(pair, client, pair.redis, () => 0);
    this.#forward(pair, pair.redis, client, () => this.latencyMs);
  }

  #forward(pair: Pair, from: Socket, to: Socket, latencyMs: () => number): void {
    let last: Promise<unknown> = Promise.resolve();
    from.on('data', (chunk) => {
      if (pair.halfOpen) return;
      if (this.#cutting) return this.#cutWithin(chunk, from, to);
      // One after another: what comes once the latency is over must not overtake.
      const arrival = latencyMs() > 0 ? delay(latencyMs()) : undefined;
      last = last.then(() => arrival).then(() => to.write(chunk));
    });
  }

  #cutWithin(chunk: Buffer, from: Socket, to: Socket): void {
    this.#cutting = false;
    to.write(chunk.subarray(0, chunk.length / 2));
    from.destroy();
  }
}
