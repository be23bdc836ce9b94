// Which URLs may be called. Whoever names a webhook's target could otherwise have us call what only we can reach.
// Called is what speaks https at a public address, and what lies in the networks that the operator allows.
import type { LookupAddress } from 'node:dns';
import { lookup as lookUpBySystem, Resolver } from 'node:dns/promises';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';

export type Address = LookupAddress;
/** All addresses of a name. Rejects where it has none. */
export type Resolve = (hostname: string) => Promise<readonly Address[]>;

export interface TargetPolicyOptions {
  /** In CIDR notation. What lies there may be called although it is not public, and also by http and on any port. */
  readonly allowedNetworks: readonly string[];
  readonly resolve?: Resolve | undefined;
}

/** Where the addresses of a target must lie: anywhere that is public or allowed, or inside the allowed networks. */
type Reach = 'anywhere' | 'inside';

export interface Target {
  readonly url: URL;
  readonly reach: Reach;
}

/** The target is not one that may be called; the message says why, in words for whoever named it. */
export class TargetRefused extends Error {
  override readonly name = 'TargetRefused';
}

export class HostUnknown extends Error {
  override readonly name = 'HostUnknown';
}

type IpAddress = ipaddr.IPv4 | ipaddr.IPv6;

const maxUrlLength = 2048;
/** What URLs say by themselves is kept, since the same ones are called time and again. Past so many all are read anew. */
const mostKnown = 1000;
const ports = ['', '443', '8443'];
/** Names that mean something else on every machine or in every network, and those without a dot. */
const localName = /^[^.:]*$|(^|\.)(localhost|local|internal|home\.arpa)$/;
/** All public IPv6 addresses lie here (IANA); ipaddr.js calls more than that unicast, such as `::127.0.0.1`. */
const globalIpv6 = ipaddr.IPv6.parseCIDR('2000::/3');

export class TargetPolicy {
  readonly #allowed: readonly (readonly [IpAddress, number])[];
  readonly #resolve: Resolve;
  readonly #known = new Map<string, Target | string>();

  /** Throws with a sentence for the operator where a network is not one. */
  constructor({ allowedNetworks, resolve }: TargetPolicyOptions) {
    this.#allowed = allowedNetworks.map(readNetwork);
    // The system's lookups know /etc/hosts and the names of a cluster, but share two threads: one name server that does
    // not answer would hold up everybody. Where all targets are public, DNS alone is asked, which has no such bound.
    this.#resolve = resolve ?? (this.#allowed.length > 0 ? (hostname) => lookUpBySystem(hostname, { all: true }) : resolveBy(new Resolver({ timeout: 2000, tries: 2 })));
  }

  /** Why the URL may not be called, as far as it tells by itself; undefined where it may. */
  check(url: string): string | undefined {
    const target = this.read(url);
    return typeof target === 'string' ? target : undefined;
  }

  /** The same, and every address that its name has now. One that has none is not refused: it may get some. */
  async checkResolved(url: string): Promise<string | undefined> {
    const target = this.read(url);
    if (typeof target === 'string') return target;
    if (addressIn(target.url.hostname)) return undefined;
    try {
      await this.#addressesOf(target.url.hostname, target.reach);
    } catch (error) {
      if (error instanceof TargetRefused) return error.message;
      if (!(error instanceof HostUnknown)) throw error;
    }
    return undefined;
  }

  /** The target that a URL names, or why it may not be called. */
  read(text: string): Target | string {
    if (text.length > maxUrlLength) return `the URL must not be longer than ${maxUrlLength} characters`;
    const known = this.#known.get(text);
    if (known !== undefined) return known;
    if (this.#known.size >= mostKnown) this.#known.clear();
    const target = this.#read(text);
    this.#known.set(text, target);
    return target;
  }

  #read(text: string): Target | string {
    if (/[\s\\\p{Cc}]/u.test(text)) return 'the URL must not hold spaces, control characters or backslashes';
    if (!/^https?:\/\/[^/]/i.test(text)) return 'the URL must begin with https://';
    if (/^[^/]*\/\/[^/?#]*@/.test(text)) return 'the URL must not hold a user name or password';
    if (text.includes('#')) return 'the URL must not have a fragment';
    const url = URL.parse(text);
    if (!url) return 'this is not a valid URL';
    if (url.href.length > maxUrlLength) return `the URL must not be longer than ${maxUrlLength} characters`;
    if (url.hostname.endsWith('.')) return 'the host name must not end with a dot';

    const address = addressIn(url.hostname);
    if (address && this.#allows(address)) return { url, reach: 'inside' };
    if (address && !isPublic(address)) return `the address ${url.hostname} is not public`;
    const fault = faultOf(url);
    if (fault === undefined) return { url, reach: 'anywhere' };
    return address || this.#allowed.length === 0 ? fault : { url, reach: 'inside' };
  }

  /**
   * Looks a name up as `net.connect` wants it, and gives only what may be connected to: what has been checked is what
   * is called. Node does not ask for addresses that stand in the URL; `read` has checked those.
   */
  lookup(reach: Reach): LookupFunction {
    const answer = async (hostname: string, all: boolean, callback: Parameters<LookupFunction>[2]) => {
      const found = await this.#addressesOf(hostname, reach).catch((error: Error) => error);
      if (found instanceof Error) callback(found, []);
      else if (all) callback(null, [...found]);
      else callback(null, found[0].address, found[0].family);
    };
    return (hostname, { all = false }, callback) => void answer(hostname, all, callback);
  }

  async #addressesOf(hostname: string, reach: Reach): Promise<readonly [Address, ...Address[]]> {
    const [first, ...others] = await this.#resolve(hostname).catch((cause: unknown) => {
      throw new HostUnknown('the name cannot be resolved', { cause });
    });
    if (!first) throw new HostUnknown('the name has no address');
    for (const { address } of [first, ...others]) {
      const ip = addressIn(address);
      if (ip && this.#allows(ip)) continue;
      if (!ip || !isPublic(ip)) throw new TargetRefused('the host name leads to an address that is not public');
      if (reach === 'inside') throw new TargetRefused('http, other ports than 443 and 8443 and local names are only for the allowed networks');
    }
    return [first, ...others];
  }

  #allows(address: IpAddress): boolean {
    return this.#allowed.some(([network, bits]) => network.kind() === address.kind() && address.match(network, bits));
  }
}

/** Asks DNS for both kinds of addresses. IPv4 goes first: it can be used everywhere. */
export function resolveBy(resolver: Resolver): Resolve {
  return async (hostname) => {
    const [ipv4, ipv6] = await Promise.allSettled([resolver.resolve4(hostname), resolver.resolve6(hostname)]);
    if (ipv4.status === 'rejected' && ipv6.status === 'rejected') throw ipv4.reason;
    const found = (answer: PromiseSettledResult<string[]>, family: number) => (answer.status === 'fulfilled' ? answer.value.map((address) => ({ address, family })) : []);
    return [...found(ipv4, 4), ...found(ipv6, 6)];
  };
}

/** What a target that is not in the allowed networks must not have. */
function faultOf({ protocol, port, hostname }: URL): string | undefined {
  if (protocol !== 'https:') return 'the URL must begin with https://';
  if (!ports.includes(port)) return 'the port must be 443 or 8443';
  if (localName.test(hostname)) return `the host name ${hostname} is not public`;
  return undefined;
}

/** The address that a host is; undefined where it is a name. IPv4 inside IPv6 (`::ffff:127.0.0.1`) is the IPv4 address. */
function addressIn(host: string): IpAddress | undefined {
  const text = host.startsWith('[') ? host.slice(1, -1) : host;
  return isIP(text) === 0 ? undefined : ipaddr.process(text);
}

function isPublic(address: IpAddress): boolean {
  if (address.range() !== 'unicast') return false;
  return address.kind() === 'ipv4' || address.match(globalIpv6);
}

function readNetwork(text: string): readonly [IpAddress, number] {
  // parseCIDR alone would read 10/8 as 0.0.0.10/8.
  const valid = ipaddr.IPv4.isValidCIDRFourPartDecimal(text) || ipaddr.IPv6.isValidCIDR(text);
  const network = valid ? ipaddr.parseCIDR(text) : undefined;
  if (!network || network[0].range() === 'ipv4Mapped') throw new Error(`an allowed network must be in CIDR notation, such as 10.0.0.0/8 or fd00::/8; got ${JSON.stringify(text)}`);
  return network;
}
