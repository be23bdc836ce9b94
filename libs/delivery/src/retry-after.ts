// The header `Retry-After` of an answer (RFC 9110 §10.2.3).

const maxMs = 86_400_000;

/** Milliseconds to wait, at most a day; undefined where the header says nothing that can be used. It holds seconds or a date. */
export function readRetryAfter(header: string, now: number): number | undefined {
  const ms = /^\d+$/.test(header) ? 1000 * Number(header) : header.endsWith(' GMT') ? Date.parse(header) - now : Number.NaN;
  return Number.isNaN(ms) ? undefined : Math.min(maxMs, Math.max(0, ms));
}
