// What becomes of one request: how much of its answer is read, how long it may take, and the words for why none came.
import { type Dispatcher, errors } from 'undici';
import type { AttemptResult, FailureReason } from './attempt.ts';
import { readRetryAfter } from './retry-after.ts';
import { HostUnknown, TargetRefused } from './target.ts';

const excerptBytes = 1024;
/** Of an answer's body; what is longer is cut off together with the connection. */
const maxBodyBytes = 64 * 1024;
/** Interim answers (1xx) that are let pass. */
const maxInterim = 16;

interface ExchangeOptions {
  readonly resolve: (result: AttemptResult) => void;
  readonly reject: (reason: Error) => void;
  readonly startedAt: number;
  readonly tls: boolean;
  readonly timeoutMs: number;
  readonly signal: AbortSignal | undefined;
}

/** What undici tells of one request. The first end counts; what comes after it only closes the connection. */
export class Exchange implements Dispatcher.DispatchHandler {
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
