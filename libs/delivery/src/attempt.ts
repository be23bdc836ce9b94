// One HTTP try of a delivery. It ends in bounded time and memory whatever the receiver does, and never throws because of it.
import { Agent, buildConnector } from 'undici';
import { Exchange } from './exchange.ts';
import { type TargetPolicy, TargetRefused } from './target.ts';

export interface SenderOptions {
  readonly policy: TargetPolicy;
  /** Until TCP and TLS are ready. */
  readonly connectTimeoutMs?: number | undefined;
  /** For everything, from the lookup of the name to the last byte of the answer. */
  readonly timeoutMs?: number | undefined;
  /** Connections that may be kept for further attempts; past it they are closed after use. */
  readonly maxKeptSockets?: number | undefined;
}

export interface Attempt {
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly signal?: AbortSignal | undefined;
}

/** The receiver has answered. What counts is the status: the rest of an answer that breaks off or does not end is not missed. */
export interface Answered {
  readonly kind: 'answered';
  readonly status: number;
  readonly durationMs: number;
  /** The first KiB of the body, made printable. */
  readonly excerpt: string;
  readonly retryAfterMs?: number | undefined;
}

/** The target may not be called, and was not. */
export interface Refused {
  readonly kind: 'refused';
  readonly reason: string;
  readonly durationMs: number;
}

/** No answer came. */
export interface Failed {
  readonly kind: 'failed';
  readonly reason: FailureReason;
  readonly durationMs: number;
}

export type AttemptResult = Answered | Refused | Failed;

export type FailureReason =
  | 'the host name cannot be resolved'
  | 'the host cannot be reached'
  | 'the connection was refused'
  | 'the connection was closed before an answer came'
  | 'the TLS certificate is not valid'
  | 'the TLS handshake failed'
  | 'timed out while connecting'
  | 'timed out while waiting for an answer'
  | 'the answer has too large headers'
  | 'only interim answers came'
  | 'the answer is not HTTP';

const maxHeaderBytes = 16 * 1024;

export class Sender {
  readonly #policy: TargetPolicy;
  readonly #timeoutMs: number;
  readonly #maxKeptSockets: number;
  readonly #agent: Agent;
  #sockets = 0;
  #closing: Promise<void> | undefined;

  constructor({ policy, connectTimeoutMs = 5000, timeoutMs = 15_000, maxKeptSockets = 512 }: SenderOptions) {
    this.#policy = policy;
    this.#timeoutMs = timeoutMs;
    this.#maxKeptSockets = maxKeptSockets;
    // The time of an attempt is measured here, as a whole: undici's own limits start anew with every byte.
    this.#agent = new Agent({ connect: this.#connector(connectTimeoutMs), allowH2: false, maxHeaderSize: maxHeaderBytes, headersTimeout: 0, bodyTimeout: 0 });
  }

  /** Posts the body once. Redirects are not followed, proxies of the environment not used. Rejects with the reason of the signal, and where a header cannot be sent. */
  attempt({ url, headers, body, signal }: Attempt): Promise<AttemptResult> {
    const startedAt = performance.now();
    const target = this.#policy.read(url);
    if (typeof target === 'string') return Promise.resolve({ kind: 'refused', reason: target, durationMs: 0 });
    if (this.#closing) return Promise.reject(new Error('the sender is closed'));
    if (signal?.aborted) return Promise.reject(signal.reason as Error);
    const { origin, pathname, search, protocol } = target.url;
    return new Promise((resolve, reject) => {
      const exchange = new Exchange({ resolve, reject, startedAt, tls: protocol === 'https:', timeoutMs: this.#timeoutMs, signal });
      this.#agent.dispatch({ origin, path: pathname + search, method: 'POST', headers, body, reset: this.#sockets >= this.#maxKeptSockets }, exchange);
    });
  }

  /** Waits for the attempts that run, and closes all connections. */
  close(): Promise<void> {
    this.#closing ??= this.#agent.close();
    return this.#closing;
  }

  #connector(timeout: number): buildConnector.connector {
    const connectors = {
      anywhere: buildConnector({ timeout, allowH2: false, rejectUnauthorized: true, lookup: this.#policy.lookup('anywhere') }),
      inside: buildConnector({ timeout, allowH2: false, rejectUnauthorized: true, lookup: this.#policy.lookup('inside') }),
    };
    return (options, callback) => {
      const target = this.#policy.read(`${options.protocol}//${options.host}`);
      if (typeof target === 'string') return callback(new TargetRefused(target), null);
      this.#sockets++;
      connectors[target.reach](options, (...[error, socket]) => {
        if (error) {
          this.#sockets--;
          callback(error, null);
        } else {
          socket.once('close', () => this.#sockets--);
          callback(null, socket);
        }
      });
    };
  }
}
