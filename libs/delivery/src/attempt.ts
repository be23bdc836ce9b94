// One HTTP try of a delivery. It ends in bounded time and memory whatever the receiver does, and never throws because of it.
import { Agent, buildConnector, type Dispatcher, errors } from 'undici';
import { readRetryAfter } from './retry-after.ts';
import { HostUnknown, type TargetPolicy, TargetRefused } from './target.ts';

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

const excerptBytes = 1024;
/** Of an answer's body; what is longer is cut off together with the connection. */
const maxBodyBytes = 64 * 1024;
const maxHeaderBytes = 16 * 1024;
/** Interim answers (1xx) that are let pass. */
const maxInterim = 16;

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

interface ExchangeOptions {
  readonly resolve: (result: AttemptResult) => void;
  readonly reject: (reason: Error) => void;
  readonly startedAt: number;
  readonly tls: boolean;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** What undici tells of one request. The first end counts; what comes after it only closes the connection. */
class Exchange implements Dispatcher.DispatchHandler {
  readonly #options: ExchangeOptions;
  readonly #timer: NodeJS.Timeout;
  readonly #stop: () => void;
  readonly #head: Buffer[] = [];
  #controller: Dispatcher.DispatchController | undefined;
  #ended = false;
  #interim = 0;
  #status = 0;
  #retryAfterMs: number | undefined;
  #bodyBytes = 0;

  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.#stop = () => {
      if (this.#end()) options.reject(options.signal?.reason as Error);
      this.#controller?.abort(stopped);
    };
    this.#timer = setTimeout(() => this.#breakOff(this.#controller ? 'timed out while waiting for an answer' : 'timed out while connecting'), options.timeoutMs);
    options.signal?.addEventListener('abort', this.#stop);
  }

  /** There is a connection; nothing has been sent yet. */
  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#ended) controller.abort(stopped);
  }

  onResponseStart(_: Dispatcher.DispatchController, status: number, headers: Record<string, string | string[] | undefined>): void {
    if (status < 200) {
      if (++this.#interim > maxInterim) this.#breakOff('only interim answers came');
      return;
    }
    this.#status = status;
    const retryAfter = headers['retry-after'];
    if (typeof retryAfter === 'string') this.#retryAfterMs = readRetryAfter(retryAfter, Date.now());
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    if (this.#bodyBytes < excerptBytes) this.#head.push(chunk);
    this.#bodyBytes += chunk.length;
    if (this.#bodyBytes > maxBodyBytes) this.#breakOff('the answer is not HTTP');
  }

  onResponseEnd(): void {
    if (this.#end()) this.#answer();
  }

  onResponseError(_: unknown, error: Error): void {
    if (!this.#end()) return;
    const { resolve, reject, tls } = this.#options;
    if (this.#status > 0) this.#answer();
    else if (error instanceof TargetRefused) resolve({ kind: 'refused', reason: error.message, durationMs: this.#durationMs });
    else if (error instanceof errors.InvalidArgumentError) reject(error);
    else resolve({ kind: 'failed', reason: reasonOf(error, { tls, connected: this.#controller !== undefined }), durationMs: this.#durationMs });
  }

  /** Takes what there is as the result, and drops the connection. */
  #breakOff(reason: FailureReason): void {
    if (this.#end()) {
      if (this.#status > 0) this.#answer();
      else this.#options.resolve({ kind: 'failed', reason, durationMs: this.#durationMs });
    }
    this.#controller?.abort(stopped);
  }

  #answer(): void {
    this.#options.resolve({
      kind: 'answered',
      status: this.#status,
      durationMs: this.#durationMs,
      excerpt: printable(this.#head),
      ...(this.#retryAfterMs !== undefined && { retryAfterMs: this.#retryAfterMs }),
    });
  }

  /** True the first time. */
  #end(): boolean {
    if (this.#ended) return false;
    this.#ended = true;
    clearTimeout(this.#timer);
    this.#options.signal?.removeEventListener('abort', this.#stop);
    return true;
  }

  get #durationMs(): number {
    return Math.round(performance.now() - this.#options.startedAt);
  }
}

/** Given to undici to drop a connection; nobody sees it. */
const stopped = new Error('the attempt is over');

const reasons: Readonly<Record<string, FailureReason>> = {
  ECONNREFUSED: 'the connection was refused',
  EHOSTUNREACH: 'the host cannot be reached',
  ENETUNREACH: 'the host cannot be reached',
  EADDRNOTAVAIL: 'the host cannot be reached',
  ECONNRESET: 'the connection was closed before an answer came',
  EPIPE: 'the connection was closed before an answer came',
  UND_ERR_CLOSED: 'the connection was closed before an answer came',
  UND_ERR_DESTROYED: 'the connection was closed before an answer came',
  UND_ERR_SOCKET: 'the connection was closed before an answer came',
  ETIMEDOUT: 'timed out while connecting',
  UND_ERR_CONNECT_TIMEOUT: 'timed out while connecting',
  UND_ERR_HEADERS_OVERFLOW: 'the answer has too large headers',
};

function reasonOf(error: Error & { code?: unknown }, { tls, connected }: { tls: boolean; connected: boolean }): FailureReason {
  if (error instanceof HostUnknown) return 'the host name cannot be resolved';
  const code = String(error.code);
  const known = reasons[code];
  if (known) return known;
  if (connected) return 'the answer is not HTTP';
  if (!tls) return 'the host cannot be reached';
  return /CERT|UNABLE_TO|HOSTNAME/.test(code) ? 'the TLS certificate is not valid' : 'the TLS handshake failed';
}

/** The text of a body's beginning without what would do something to a terminal or a page. */
function printable(chunks: readonly Buffer[]): string {
  if (chunks.length === 0) return '';
  const bytes = Buffer.concat(chunks).subarray(0, excerptBytes);
  const text = bytes.toString();
  // A character may be cut in two.
  return (bytes.length === excerptBytes ? text.replace(/\uFFFD+$/, '') : text).replaceAll(/[^\P{C}\n\t]/gu, '\uFFFD');
}
