// The end of commands that stay.

const signals = ['SIGINT', 'SIGTERM'] as const;
/** Where there is no terminal, a signal to the whole process group comes again through the launcher. */
const sameMs = 250;

/** Resolves on Ctrl-C or SIGTERM. */
export async function untilSignal(): Promise<void> {
  await new Promise<void>((resolve) => {
    // Kept on: one that comes again through the launcher must not cut the end short.
    for (const signal of signals) process.on(signal, () => resolve());
  });
}

/** Aborts on Ctrl-C or SIGTERM; a second one ends this process at once, with `exitCode`. */
export function interruption(exitCode: number): AbortSignal {
  const asked = new AbortController();
  let askedAt = 0;
  const onSignal = () => {
    if (!asked.signal.aborted) askedAt = performance.now();
    else if (performance.now() - askedAt > sameMs) process.exit(exitCode);
    asked.abort();
  };
  for (const signal of signals) process.on(signal, onSignal);
  return asked.signal;
}
