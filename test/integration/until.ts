// Waiting for what must come, and not for longer.
/** Waits until the condition holds, looking again and again, with so many milliseconds in between; fails after `seconds`. */
export async function until<Value>(look: () => Promise<Value | undefined | false> | Value | undefined | false, what: string, seconds = 60, betweenMs = 10): Promise<Value> {
  const deadline = Date.now() + seconds * 1000;
  for (;;) {
    const value = await look();
    if (value !== undefined && value !== false) return value;
    if (Date.now() > deadline) throw new Error(`${what}: not within ${seconds} s`);
    await new Promise((resolve) => { setTimeout(resolve, betweenMs); });
  }
}

/** What the promise gives; fails after `seconds`. */
export async function within<Value>(seconds: number, promise: Promise<Value>, what: string): Promise<Value> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`${what}: not within ${seconds} s`)), seconds * 1000);
  return Promise.race([promise, late.promise]).finally(() => clearTimeout(timer));
}
