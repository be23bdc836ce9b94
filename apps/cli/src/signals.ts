// The end of commands that stay.

/** Resolves on Ctrl-C or SIGTERM. */
export async function untilSignal(): Promise<void> {
  await new Promise<void>((resolve) => {
    // Kept on: a signal to the whole process group comes again through the launcher, and must not cut the end short.
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => resolve());
  });
}
