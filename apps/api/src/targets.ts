// Whether webhooks may go where requests want them to, as far as that can be told beforehand. What is known of a host is kept
// for a minute, so that most requests look nothing up. Whoever connects later looks again: this only tells early.
import type { TargetPolicy } from '@millrace/delivery';
import type { FaultList } from '@millrace/protocol';

/** Why a target may not be called; undefined where it may. */
type Verdict = string | undefined;

interface Origin {
  verdict: Verdict | Promise<Verdict>;
  readonly until: number;
}

const freshMs = 60_000;
/** Past these all are forgotten. */
const mostUrls = 1000;
const mostOrigins = 10_000;
/** A name that takes longer, or that would have to wait for others, passes: a slow name server must not hold predictions up. */
const patienceMs = 2000;
const lookupsAtOnce = 64;

export class Targets {
  readonly #policy: TargetPolicy;
  readonly #urls = new Map<string, { readonly fault: Verdict; readonly origin: string }>();
  readonly #origins = new Map<string, Origin>();
  #lookups = 0;

  constructor(policy: TargetPolicy) {
    this.#policy = policy;
  }

  /** Adds a fault where the URL may not be called. What is no text, or has a fault already, is the schema's matter. */
  async check(url: unknown, faults: FaultList, pointer: string): Promise<void> {
    if (typeof url !== 'string' || faults.faults.some((known) => known.pointer === pointer)) return;
    const { fault, origin } = this.#read(url);
    const verdict = fault ?? await this.#verdictOn(origin);
    if (verdict !== undefined) faults.add(pointer, verdict);
  }

  /** What the URL tells by itself. */
  #read(url: string): { readonly fault: Verdict; readonly origin: string } {
    let read = this.#urls.get(url);
    if (!read) {
      const fault = this.#policy.check(url);
      if (this.#urls.size >= mostUrls) this.#urls.clear();
      this.#urls.set(url, read = { fault, origin: fault === undefined ? new URL(url).origin : '' });
    }
    return read;
  }

  /** What the addresses of its host tell. */
  #verdictOn(origin: string): Verdict | Promise<Verdict> {
    const known = this.#origins.get(origin);
    if (known && known.until > performance.now()) return known.verdict;
    if (this.#lookups >= lookupsAtOnce) return undefined;
    if (this.#origins.size >= mostOrigins) this.#origins.clear();
    const looking = this.#policy.checkResolved(origin);
    const entry: Origin = { verdict: Promise.race([looking, patience()]), until: performance.now() + freshMs };
    this.#origins.set(origin, entry);
    this.#lookups++;
    void looking.then((verdict) => { entry.verdict = verdict; }, () => { this.#origins.delete(origin); }).finally(() => { this.#lookups--; });
    return entry.verdict;
  }
}

function patience(): Promise<undefined> {
  return new Promise((resolve) => { setTimeout(() => resolve(undefined), patienceMs).unref(); });
}
