// Start in order, stop in reverse, exit in time.
import type { Logger } from './logger.ts';

const aliveEveryMs = 1000;
/** With the parent the Redis that it ran may be gone, which parts that stop would wait for. */
const orphanGraceMs = 5000;

interface Owned {
  readonly name: string;
  readonly stop: () => unknown;
}

/** Owns what a process has started, and ends it: on a signal, on the death of the parent, or on a fatal error. */
export class Lifecycle {
  readonly #log: Logger;
  readonly #graceMs: number;
  readonly #owned: Owned[] = [];
  #ending = false;

  constructor(log: Logger, graceMs: number) {
    this.#log = log;
    this.#graceMs = graceMs;
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => this.#onSignal(signal));
    process.on('uncaughtException', (error) => this.fail(error));
    process.on('unhandledRejection', (error) => this.fail(error));
    onceOrphaned(() => this.#onSignal('parent gone', orphanGraceMs));
    // A parent that hears nothing takes this process for one that hangs (service.ts). Where the channel is closing, it is gone itself.
    setInterval(() => { if (process.connected) process.send?.('alive', () => {}); }, aliveEveryMs).unref();
  }

  /** Registers how to end a part, in the order of starting. */
  own(name: string, stop: () => unknown): void {
    this.#owned.push({ name, stop });
  }

  /** Something broke that nothing here can mend, also while starting: stops what has been started and exits with 1. */
  fail(error: unknown): void {
    this.#log.fatal({ err: error }, 'process failed');
    if (!this.#ending) void this.#end(1, this.#graceMs);
  }

  #onSignal(reason: string, mostMs = Infinity): void {
    if (this.#ending) {
      this.#log.warn({ reason }, 'second signal, exiting at once');
      exitNow();
    }
    this.#log.info({ reason }, 'stopping');
    void this.#end(0, Math.min(mostMs, this.#graceMs));
  }

  /** Stops every part in reverse and exits. What does not stop within the grace period is left. */
  async #end(exitCode: number, graceMs: number): Promise<void> {
    this.#ending = true;
    setTimeout(() => {
      this.#log.error({ graceMs }, 'grace period is over, exiting');
      exitNow();
    }, graceMs);
    for (const { name, stop } of this.#owned.toReversed()) {
      try {
        await stop();
      } catch (error) {
        this.#log.error({ err: error, part: name }, 'part did not stop cleanly');
      }
    }
    this.#log.info('stopped');
    // With the parent the readers of the log and of the exit code are gone; writing the rest of the log would only fail.
    if (isOrphan()) exitNow();
    process.exit(exitCode);
  }
}

/** Calls `end` when a parent that spawned this process with an IPC channel dies, even by SIGKILL: that closes it. */
export function onceOrphaned(end: () => void): void {
  process.once('disconnect', end);
  // It may have died while this process was loading its code.
  if (isOrphan()) end();
}

/** Whether there was an IPC channel to a parent, and is none any more. Where there never was one, `connected` is missing. */
function isOrphan(): boolean {
  const { connected } = process as { readonly connected?: boolean };
  return connected === false;
}

/** ONNX Runtime aborts a process that exits while a session runs, with a core dump; SIGKILL does not ask it. */
function exitNow(): never {
  process.kill(process.pid, 'SIGKILL');
  return process.exit(1);
}
