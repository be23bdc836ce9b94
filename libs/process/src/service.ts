// One of Millrace's own processes as a child: started until it says that it is ready, started again when it ends, stopped gently.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { endsInARow, restartDelayMs } from './restart-delay.ts';

/** Takes a log line of a service: its fields, or the text of a line that is no log. */
export type ServiceLog = (service: string, fields: Record<string, unknown>) => void;

export interface ServiceOptions {
  readonly name: string;
  /** For Node: its own arguments, the script, the script's. */
  readonly args: readonly string[];
  /** The whole environment. */
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Message of the log line that says that it is ready. */
  readonly readyMessage: string;
  /** How long it may take to stop before it is killed; without it, the process itself sees to that. */
  readonly graceMs?: number;
  /**
   * When it hangs, and is killed so that it is started again: not ready so long after its start, or, once it was heard of by IPC
   * (lifecycle.ts) or was ready, not heard of for so long. Without it, nothing is too long.
   */
  readonly hung?: { readonly startMs: number; readonly silentMs: number };
  readonly onLog: ServiceLog;
  /** It has ended by itself, and is started again. */
  readonly onRestart?: () => void;
}

/** `silent`: it lives, and is not heard of. `waiting`: it has ended and is started again later. `stopping`: it has been told to end. */
export type ServiceState = 'starting' | 'ready' | 'silent' | 'waiting' | 'stopping' | 'stopped';

/**
 * Requests live for a batch's time and so survive V8's small collections of new objects: with room for more of them, sync
 * predictions per second rise by about a seventh (docs/05-operations.md). And V8 marks all objects whenever the new ones
 * come near to its first idea of the old ones' size: where that is larger, a backfill of CSV takes a fourth less CPU.
 */
const nodeArgs = ['--max-semi-space-size=64', '--initial-old-space-size=96'];

const startLimitMs = 60_000;

/** Looks for a sign of life, in a row without one: so many until it counts as silent, and until it hangs. */
const looks = { silent: 5, hung: 15 };

export class Service {
  readonly #options: ServiceOptions;
  #child: ChildProcess | undefined;
  #state: ServiceState = 'stopped';
  #readyAt = Infinity;
  #ends = 0;
  /** Looks without a sign of life since the last one; undefined before the first. */
  #missed: number | undefined;
  #again: NodeJS.Timeout | undefined;
  #gone: Promise<void> | undefined;

  constructor(options: ServiceOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get state(): ServiceState {
    return this.#isRunning && (this.#missed ?? 0) >= looks.silent ? 'silent' : this.#state;
  }

  get #isRunning(): boolean {
    return this.#state === 'starting' || this.#state === 'ready';
  }

  /** Resolves with the fields of the line that says that it is ready; from then on it is kept. Rejects, with the last words, where it ends first. */
  async start(): Promise<Record<string, unknown>> {
    const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>();
    let lastWords = '';
    const child = this.#spawn((fields) => {
      if (this.#state === 'ready') resolve(fields);
      else if (fields['level'] !== 'info') lastWords = `${String(fields['msg'])} ${errorOf(fields)}`;
    });
    onEnd(child, (reason) => reject(new Error(`${this.name} ended before it was ready (${reason}): ${lastWords}`)));
    const timer = setTimeout(() => reject(new Error(`${this.name} was not ready within ${startLimitMs / 1000} s: ${lastWords}`)), startLimitMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#restartAfter(child);
    }
  }

  /** Starts it, and again whenever it ends, also where it has never been ready. */
  keep(): void {
    try {
      this.#restartAfter(this.#spawn(() => {}));
    } catch (error) {
      this.#restart(error instanceof Error ? error.message : String(error));
    }
  }

  /** SIGTERM, and resolves once the process is gone. Idempotent: a second signal would ask for haste. */
  stop(): Promise<void> {
    return (this.#gone ??= this.#end());
  }

  /** For who cannot wait. */
  kill(): void {
    clearTimeout(this.#again);
    this.#state = 'stopped';
    this.#child?.kill('SIGKILL');
  }

  #spawn(onLine: (fields: Record<string, unknown>) => void): ChildProcess {
    const { args, env, readyMessage, onLog } = this.#options;
    this.#state = 'starting';
    this.#readyAt = Infinity;
    // The IPC channel tells the child when this process dies, even by SIGKILL. In a session of its own, Ctrl-C on the terminal does
    // not reach it: with the SIGTERM of its owner it would be a second signal, which asks for haste.
    const child = spawn(process.execPath, [...nodeArgs, ...args], { detached: true, env, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    this.#child = child;
    this.#watch(child);
    for (const stream of [child.stdout, child.stderr]) {
      if (!stream) continue;
      createInterface({ input: stream }).on('line', (line) => {
        const fields = parseLine(line);
        if (fields['msg'] === readyMessage) this.#becomeReady();
        onLine(fields);
        onLog(this.name, fields);
      });
    }
    return child;
  }

  /** Looks are counted, and not time: where this process stands still, its children need not. */
  #watch(child: ChildProcess): void {
    const { hung, onLog } = this.#options;
    this.#missed = undefined;
    if (!hung) return;
    const everyMs = hung.silentMs / looks.hung;
    let sinceStart = 0;
    const timer = setInterval(() => {
      sinceStart++;
      if (this.#missed !== undefined) this.#missed++;
      const isLate = this.#state === 'starting' && sinceStart * everyMs >= hung.startMs;
      if (!this.#isRunning || !(isLate || (this.#missed ?? 0) >= looks.hung)) return;
      onLog(this.name, { level: 'error', msg: 'hangs, killing it', reason: isLate ? `not ready within ${hung.startMs} ms` : `not heard of for ${hung.silentMs} ms` });
      clearInterval(timer);
      child.kill('SIGKILL');
    }, everyMs);
    child.on('message', () => { this.#missed = 0; });
    onEnd(child, () => clearInterval(timer));
  }

  #becomeReady(): void {
    if (this.#state !== 'starting') return;
    this.#state = 'ready';
    this.#readyAt = performance.now();
    this.#missed = 0;
  }

  #restartAfter(child: ChildProcess): void {
    onEnd(child, (reason) => { if (this.#isRunning) this.#restart(reason); });
  }

  #restart(reason: string): void {
    this.#ends = endsInARow(this.#ends, Math.max(0, performance.now() - this.#readyAt));
    const delayMs = restartDelayMs(this.#ends, Math.random());
    const { onLog, onRestart } = this.#options;
    onLog(this.name, { level: 'error', msg: 'ended unexpectedly, starting it again', reason, delayMs });
    onRestart?.();
    this.#state = 'waiting';
    this.#again = setTimeout(() => this.keep(), delayMs);
  }

  async #end(): Promise<void> {
    clearTimeout(this.#again);
    const child = this.#child;
    this.#state = 'stopping';
    if (!isGone(child)) {
      const { graceMs, onLog } = this.#options;
      const haste = graceMs === undefined ? undefined : setTimeout(() => {
        onLog(this.name, { level: 'error', msg: 'did not stop in time, killing it', graceMs });
        child.kill('SIGKILL');
      }, graceMs);
      const exited = once(child, 'exit');
      child.kill('SIGTERM');
      await exited;
      clearTimeout(haste);
    }
    this.#state = 'stopped';
  }
}

/** Also of a process that could not be made. */
function onEnd(child: ChildProcess, end: (reason: string) => void): void {
  child.once('exit', (code, signal) => end(String(signal ?? code)));
  child.on('error', (error) => { if (child.pid === undefined) end(error.message); });
}

function isGone(child: ChildProcess | undefined): child is undefined {
  return !child || child.exitCode !== null || child.signalCode !== null;
}

function parseLine(line: string): Record<string, unknown> {
  if (line.startsWith('{')) {
    try {
      return JSON.parse(line) as Record<string, unknown>;
    } catch { /* no log line, then */ }
  }
  return { level: 'warn', msg: line };
}

function errorOf({ err }: Record<string, unknown>): string {
  return typeof err === 'object' && err !== null && 'message' in err ? String(err.message) : '';
}
