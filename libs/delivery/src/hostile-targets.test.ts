// The corpus of targets that must not be called, each under its name: when a URL is registered, and when it is connected to.
import { describe, expect, test } from 'vitest';
import { Sender } from './attempt.ts';
import { listCases } from './hostile-cases.ts';
import { startHttp, startNameServer } from './hostile-servers.ts';
import { TargetPolicy } from './target.ts';

listCases();

const publicOnly = new TargetPolicy({ allowedNetworks: [], resolve: () => Promise.reject(new Error('nobody may be asked')) });

const addresses: readonly (readonly [what: string, address: string])[] = [
  ['this host (0/8)', '0.0.0.0'],
  ['this network (0/8)', '0.1.2.3'],
  ['private 10/8', '10.0.0.1'],
  ['carrier-grade NAT 100.64/10', '100.64.0.1'],
  ['carrier-grade NAT, its end', '100.127.255.254'],
  ['loopback', '127.0.0.1'],
  ['loopback, its end', '127.255.255.254'],
  ['link-local', '169.254.0.1'],
  ['metadata of AWS, GCP, Azure', '169.254.169.254'],
  ['metadata of AWS ECS', '169.254.170.2'],
  ['metadata of Alibaba', '100.100.100.200'],
  ['private 172.16/12', '172.16.0.1'],
  ['private 172.16/12, its end', '172.31.255.254'],
  ['IETF protocols 192.0.0/24', '192.0.0.1'],
  ['metadata of Oracle', '192.0.0.192'],
  ['TEST-NET-1', '192.0.2.1'],
  ['AS112', '192.31.196.1'],
  ['AMT', '192.52.193.1'],
  ['6to4 relay', '192.88.99.1'],
  ['private 192.168/16', '192.168.0.1'],
  ['benchmarking 198.18/15', '198.18.0.1'],
  ['benchmarking 198.18/15, its end', '198.19.255.254'],
  ['TEST-NET-2', '198.51.100.1'],
  ['TEST-NET-3', '203.0.113.1'],
  ['multicast', '224.0.0.1'],
  ['reserved 240/4', '240.0.0.1'],
  ['broadcast', '255.255.255.255'],
  ['IPv6 unspecified', '::'],
  ['IPv6 loopback', '::1'],
  ['IPv4-mapped loopback', '::ffff:127.0.0.1'],
  ['IPv4-mapped private', '::ffff:10.0.0.1'],
  ['IPv4-mapped metadata', '::ffff:169.254.169.254'],
  ['IPv4-compatible loopback', '::127.0.0.1'],
  ['IPv4-compatible private', '::10.0.0.1'],
  ['IPv4-translated (RFC 6145)', '::ffff:0:127.0.0.1'],
  ['NAT64 of loopback', '64:ff9b::127.0.0.1'],
  ['NAT64 of metadata', '64:ff9b::a9fe:a9fe'],
  ['NAT64 for local use', '64:ff9b:1::10.0.0.1'],
  ['6to4 of loopback', '2002:7f00:1::'],
  ['6to4 of private', '2002:a00:1::1'],
  ['Teredo', '2001::7f00:1'],
  ['IPv6 benchmarking', '2001:2::1'],
  ['ORCHIDv2', '2001:20::1'],
  ['IPv6 documentation', '2001:db8::1'],
  ['IPv6 documentation 3fff/20', '3fff::1'],
  ['discard only', '100::1'],
  ['segment routing', '5f00::1'],
  ['unique-local fc00/7', 'fc00::1'],
  ['metadata of AWS by IPv6', 'fd00:ec2::254'],
  ['metadata of GCP by IPv6', 'fd20:ce::254'],
  ['IPv6 link-local', 'fe80::1'],
  ['IPv6 site-local', 'fec0::1'],
  ['IPv6 multicast', 'ff02::1'],
  ['never assigned', '4000::1'],
];

const urlOf = (address: string) => (address.includes(':') ? `https://[${address}]/hook` : `https://${address}/hook`);

const notPublic = /is not public$/;
const scheme = 'the URL must begin with https://';
const userinfo = 'the URL must not hold a user name or password';
const characters = 'the URL must not hold spaces, control characters or backslashes';
const port = 'the port must be 443 or 8443';
const fragment = 'the URL must not have a fragment';
const invalid = 'this is not a valid URL';
const dot = 'the host name must not end with a dot';
const long = 'the URL must not be longer than 2048 characters';

const urls: readonly (readonly [what: string, url: string, reason: string | RegExp])[] = [
  ['an address in decimal', 'https://2130706433/', notPublic],
  ['an address in octal', 'https://0177.0.0.1/', notPublic],
  ['an address in hexadecimal, by parts', 'https://0x7f.0x0.0x0.0x1/', notPublic],
  ['an address in hexadecimal, whole', 'https://0x7f000001/', notPublic],
  ['an address of two parts', 'https://127.1/', notPublic],
  ['an address of three parts', 'https://10.0.1/', notPublic],
  ['an address of mixed notations', 'https://0xa9.254.0251.0376/', notPublic],
  ['zero', 'https://0/', notPublic],
  ['an address in full-width digits', 'https://１２７.０.０.１/', notPublic],
  ['an address in circled digits', 'https://①②⑦.⓪.⓪.①/', notPublic],
  ['an address with ideographic full stops', 'https://127。0。0。1/', notPublic],
  ['an address in percent-encoding', 'https://%31%32%37.0.0.1/', notPublic],
  ['an address with a trailing dot', 'https://127.0.0.1./', notPublic],
  ['an address with a part too large', 'https://127.0.0.256/', invalid],
  ['an address with too many parts', 'https://127.0.0.0.1/', invalid],
  ['an address beyond 32 bits', 'https://4294967297/', invalid],
  ['IPv6, written out', 'https://[0:0:0:0:0:0:0:1]/', notPublic],
  ['IPv4-mapped, in hexadecimal', 'https://[0:0:0:0:0:ffff:7f00:1]/', notPublic],
  ['IPv6 without brackets', 'https://::1/', invalid],
  ['a zone id', 'https://[fe80::1%eth0]/', invalid],
  ['a zone id in percent-encoding', 'https://[fe80::1%25eth0]/', invalid],
  ['localhost', 'https://localhost/', notPublic],
  ['localhost in capitals', 'https://LOCALHOST/', notPublic],
  ['localhost in full width', 'https://ｌｏｃａｌｈｏｓｔ/', notPublic],
  ['localhost with a soft hyphen', 'https://local\u00ADhost/', notPublic],
  ['localhost in percent-encoding', 'https://%6cocalhost/', notPublic],
  ['localhost with a trailing dot', 'https://localhost./', dot],
  ['a name below localhost', 'https://a.b.localhost/', notPublic],
  ['a name without a dot', 'https://redis/', notPublic],
  ['metadata of GCP by name', 'https://metadata.google.internal/', notPublic],
  ['a name of a cluster', 'https://api.default.svc.cluster.local/', notPublic],
  ['a name of a home', 'https://router.home.arpa/', notPublic],
  ['a name with a trailing dot', 'https://example.com./', dot],
  ['http', 'http://example.com/', scheme],
  ['http to a public address', 'http://93.184.216.34/', scheme],
  ['ftp', 'ftp://example.com/', scheme],
  ['file', 'file:///etc/passwd', scheme],
  ['gopher', 'gopher://example.com:6379/_INFO', scheme],
  ['data', 'data:text/plain,hello', scheme],
  ['javascript', 'javascript:alert(1)', scheme],
  ['blob', 'blob:https://example.com/1', scheme],
  ['wss', 'wss://example.com/', scheme],
  ['no scheme', '//example.com/', scheme],
  ['no host', 'https:///', scheme],
  ['a host after three slashes', 'https:///127.0.0.1/', scheme],
  ['no slashes', 'https:127.0.0.1', scheme],
  ['nothing', '', scheme],
  ['a user name', 'https://me@example.com/', userinfo],
  ['a user name and password', 'https://me:secret@example.com/', userinfo],
  ['an empty user name', 'https://@example.com/', userinfo],
  ['a user name that looks like a host', 'https://example.com@127.0.0.1/', userinfo],
  ['a password that looks like a port', 'https://example.com:443@127.0.0.1/', userinfo],
  ['an @ in percent-encoding', 'https://example.com%40127.0.0.1/', invalid],
  ['a backslash before an @', 'https://example.com\\@127.0.0.1/', characters],
  ['backslashes for slashes', 'https:\\\\127.0.0.1\\', characters],
  ['a tab in the host', 'https://127.0.0\t.1/', characters],
  ['a tab in the scheme', 'ht\ttps://127.0.0.1/', characters],
  ['line breaks that would add a header', 'https://example.com/\r\nhost: 127.0.0.1', characters],
  ['a leading space', ' https://example.com/', characters],
  ['a null byte', 'https://example.com\0.internal/', characters],
  ['a wide space', 'https://example.com\u3000/', characters],
  ['port 80', 'https://example.com:80/', port],
  ['the port of SSH', 'https://example.com:22/', port],
  ['the port of Redis', 'https://example.com:6379/', port],
  ['port 0', 'https://example.com:0/', port],
  ['another port at a public address', 'https://93.184.216.34:9200/', port],
  ['a port that does not exist', 'https://example.com:65536/', invalid],
  ['a fragment', 'https://example.com/#here', fragment],
  ['an empty fragment', 'https://example.com/#', fragment],
  ['a URL too long', `https://example.com/${'a'.repeat(2048)}`, long],
  ['a URL too long once it is encoded', `https://example.com/${'ü'.repeat(500)}`, long],
];

describe('at registration, by the URL alone', () => {
  test.each(urls)('%s', async (_, url, reason) => {
    expect(publicOnly.check(url)).toMatch(reason);
    expect(await publicOnly.checkResolved(url)).toMatch(reason);
  });

  test.each(addresses)('%s: %s', async (_, address) => {
    expect(publicOnly.check(urlOf(address))).toMatch(notPublic);
    expect(await publicOnly.checkResolved(urlOf(address))).toMatch(notPublic);
  });
});

describe('at registration, by what the name leads to', () => {
  test.each(addresses)('%s: %s', async (_, address) => {
    const policy = new TargetPolicy({ allowedNetworks: [], resolve: await startNameServer({ 'hook.example.com': [[address]] }) });
    expect(policy.check('https://hook.example.com/')).toBeUndefined();
    expect(await policy.checkResolved('https://hook.example.com/')).toBe('the host name leads to an address that is not public');
  });
});

/** How an attempt ends, in one word or with the reason for which its target is refused. */
async function attempt(policy: TargetPolicy, url: string): Promise<string> {
  const sender = new Sender({ policy });
  const result = await sender.attempt({ url, headers: {}, body: '{}' });
  await sender.close();
  return result.kind === 'refused' ? result.reason : result.kind;
}

describe('at connect, by the URL alone', () => {
  test.each(urls)('%s', async (_, url, reason) => {
    expect(await attempt(publicOnly, url)).toMatch(reason);
  });

  test.each(addresses)('%s: %s', async (_, address) => {
    expect(await attempt(publicOnly, urlOf(address))).toMatch(notPublic);
  });
});

describe('at connect, by what the name leads to', () => {
  test.each(addresses)('%s: %s', async (_, address) => {
    const policy = new TargetPolicy({ allowedNetworks: [], resolve: await startNameServer({ 'hook.example.com': [[address]] }) });
    expect(await attempt(policy, 'https://hook.example.com/')).toBe('the host name leads to an address that is not public');
  });

  test('an address with a zone id', async () => {
    const policy = new TargetPolicy({ allowedNetworks: [], resolve: () => Promise.resolve([{ address: 'fe80::1%eth0', family: 6 }]) });
    expect(await attempt(policy, 'https://hook.example.com/')).toBe('the host name leads to an address that is not public');
  });
});

describe('names that change or lead to several places', () => {
  const somewhere = '93.184.216.34';

  test('the first answer is public, the second is not: refused when it is called', async () => {
    const policy = new TargetPolicy({ allowedNetworks: [], resolve: await startNameServer({ 'rebind.example.com': [[somewhere], ['127.0.0.1']] }) });
    expect(await policy.checkResolved('https://rebind.example.com/')).toBeUndefined();
    expect(await attempt(policy, 'https://rebind.example.com/')).toBe('the host name leads to an address that is not public');
  });

  test.each([
    ['a public and a private address', [somewhere, '10.0.0.1']],
    ['a private and a public address', ['10.0.0.1', somewhere]],
    ['a public IPv4 and a private IPv6 address', [somewhere, 'fd00::1']],
    ['a private IPv4 and a public IPv6 address', ['10.0.0.1', '2606:4700:4700::1111']],
    ['a public address and a mapped one that is not', ['2606:4700:4700::1111', '::ffff:10.0.0.1']],
  ])('%s: all must be public', async (_, found) => {
    const policy = new TargetPolicy({ allowedNetworks: [], resolve: await startNameServer({ 'mixed.example.com': [found] }) });
    expect(await policy.checkResolved('https://mixed.example.com/')).toBe('the host name leads to an address that is not public');
    expect(await attempt(policy, 'https://mixed.example.com/')).toBe('the host name leads to an address that is not public');
  });

  test('what is connected to is what was checked: the name is asked once, and no third answer counts', async () => {
    let called = 0;
    const port = await startHttp((_, reply) => {
      called++;
      reply.end();
    });
    const url = `http://rebind.example.com:${port}/`;
    const resolve = await startNameServer({ 'rebind.example.com': [['127.0.0.2'], ['127.0.0.1'], ['127.0.0.2']] });
    const policy = new TargetPolicy({ allowedNetworks: ['127.0.0.2/32'], resolve });
    expect(await policy.checkResolved(url)).toBeUndefined();
    expect(await attempt(policy, url)).toBe('the host name leads to an address that is not public');
    expect(called).toBe(0);
  });

  test('a name that does not exist is not refused: it may come', async () => {
    const policy = new TargetPolicy({ allowedNetworks: [], resolve: await startNameServer({}) });
    expect(await policy.checkResolved('https://new.example.com/')).toBeUndefined();
    expect(await attempt(policy, 'https://new.example.com/')).toBe('failed');
  });
});

describe('where 127.0.0.0/8 is allowed', () => {
  test.each([
    ['private addresses are still refused', ['10.0.0.1'], 'https://hook.example.com/', 'the host name leads to an address that is not public'],
    ['a name that also leads elsewhere inside is refused', ['127.0.0.1', '10.0.0.1'], 'http://hook.example.com/', 'the host name leads to an address that is not public'],
    ['http to a public address is refused', ['93.184.216.34'], 'http://hook.example.com/', 'http, other ports than 443 and 8443 and local names are only for the allowed networks'],
    ['another port at a public address is refused', ['93.184.216.34'], 'https://hook.example.com:6379/', 'http, other ports than 443 and 8443 and local names are only for the allowed networks'],
    ['a local name with a public address is refused', ['93.184.216.34'], 'https://metadata.internal/', 'http, other ports than 443 and 8443 and local names are only for the allowed networks'],
    ['a name that leads to both is refused by http', ['127.0.0.1', '93.184.216.34'], 'http://hook.example.com/', 'http, other ports than 443 and 8443 and local names are only for the allowed networks'],
  ])('%s', async (_, found, url, reason) => {
    const resolve = await startNameServer({ 'hook.example.com': [found], 'metadata.internal': [found] });
    const policy = new TargetPolicy({ allowedNetworks: ['127.0.0.0/8'], resolve });
    expect(await policy.checkResolved(url)).toBe(reason);
    expect(await attempt(policy, url)).toBe(reason);
  });

  test.each(urls.filter(([, , reason]) => [userinfo, characters, fragment, invalid, dot, long].includes(String(reason))))('refused as before: %s', (_, url, reason) => {
    expect(new TargetPolicy({ allowedNetworks: ['127.0.0.0/8', '::1/128'] }).check(url)).toMatch(reason);
  });

  test.each(['http://10.0.0.1/', 'http://93.184.216.34/', 'https://93.184.216.34:22/', 'https://[::1]/', 'https://[64:ff9b::127.0.0.1]/'])('refused as before: %s', (url) => {
    expect(new TargetPolicy({ allowedNetworks: ['127.0.0.0/8'] }).check(url)).toBeDefined();
  });
});
