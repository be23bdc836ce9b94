// One of Millrace's own processes as a child: started until it says that it is ready, restarted when it dies, stopped gently.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** Takes a log line of a service: its fields, or the text of a line that is no log. */
export type ServiceLog = (service: string, fields: Record<string, unknown>) => void;

/**
 * Requests live for a batch's time and so survive V8's small collections of new objects: with room for more of them, sync
 * predictions per second rise by about a seventh (docs/05-operations.md).
 */
const nodeArgs = ['--max-semi-space-size=64'];

const startLimitMs = 60_000;
const restartMs = 1000;

export class Service {
  readonly name: string;
  readonly #args: readonly string[];
  readonly #env: Readonly<Record<string, string>>;
  readonly #onLog: ServiceLog;
  #child: ChildProcess | undefined;
  #stopping = false;

  constructor(name: string, args: readonly string[], env: Readonly<Record<string, string>>, onLog: ServiceLog) {
    this.name = name;
    this.#args = args;
    this.#env = env;
    this.#onLog = onLog;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Resolves with the fields of the log line whose message is `readyMessage`. Rejects, with the last words, where the process ends first. */
  async start(readyMessage: string): Promise<Record<string, unknown>> {
    const { promise, resolve, reject } = Promise.withResolvers<Record<string, unknown>>();
    let lastWords = '';
    const child = this.#spawn((fields) => {
      if (fields['msg'] === readyMessage) resolve(fields);
      else if (fields['level'] !== 'info') lastWords = `${String(fields['msg'])} ${errorOf(fields)}`;
    });
    child.once('exit', (code, signal) => reject(new Error(`${this.name} ended before it was ready (${signal ?? code}): ${lastWords}`)));
    const timer = setTimeout(() => reject(new Error(`${this.name} was not ready within ${startLimitMs / 1000} s: ${lastWords}`)), startLimitMs);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      child.once('exit', () => this.#restart());
    }
  }

  /** SIGTERM, and resolves once the process is gone. */
  async stop(): Promise<void> {
    this.#stopping = true;
    const child = this.#child;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }

  /** For who cannot wait. */
  kill(): void {
    this.#stopping = true;
    this.#child?.kill('SIGKILL');
  }

  #spawn(onLine: (fields: Record<string, unknown>) => void): ChildProcess {
    // The IPC channel tells the child when this process dies, even by SIGKILL. In a session of its own, Ctrl-C on the terminal does
    // not reach it: with the SIGTERM of its owner it would be a second signal, which asks for haste.
    const child = spawn(process.execPath, [...nodeArgs, ...this.#args], { detached: true, env: { ...inherited(), ...this.#env }, stdio: ['ignore', 'pipe', 'pipe', 'ipc'] });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      if (!stream) continue;
      createInterface({ input: stream }).on('line', (line) => {
        const fields = parseLine(line);
        onLine(fields);
        this.#onLog(this.name, fields);
      });
    }
    return child;
  }

  #restart(): void {
    if (this.#stopping) return;
    this.#onLog(this.name, { level: 'error', msg: 'ended unexpectedly, starting it again' });
    setTimeout(() => {
      if (!this.#stopping) this.#spawn(() => {}).once('exit', () => this.#restart());
    }, restartMs);
  }
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

/** What a child needs of our own environment; Millrace's settings are given, not inherited. */
function inherited(): Record<string, string | undefined> {
  // oxlint-disable-next-line node/no-process-env -- passed on, not read
  const env = { ...process.env };
  for (const name of Object.keys(env)) if (name.startsWith('MILLRACE_REDIS')) delete env[name];
  return env;
}
