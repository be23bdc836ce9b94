import { expect, test } from 'vitest';
import { startNameServer } from './hostile-servers.ts';
import { TargetPolicy } from './target.ts';

test.each([
  'https://example.com',
  'HTTPS://EXAMPLE.COM/Hook?a=b@c',
  'https://example.com:443/hook',
  'https://example.com:8443/hook',
  'https://bücher.example/',
  'https://93.184.216.34/',
  'https://[2606:4700:4700::1111]/',
  `https://example.com/${'a'.repeat(2048 - 20)}`,
])('may be called: %s', (url) => {
  expect(new TargetPolicy({ allowedNetworks: [] }).check(url)).toBeUndefined();
});

test.each([
  'http://10.1.2.3/', 'https://10.1.2.3:6379/', 'http://[::ffff:10.1.2.3]:80/', 'http://167838211/', 'http://[fd00::1]:8080/', 'http://localhost:3000/', 'http://hook.internal/', 'https://redis/',
])('may be called where 10.0.0.0/8 and fd00::/8 are allowed, as far as the URL tells: %s', (url) => {
  expect(new TargetPolicy({ allowedNetworks: ['10.0.0.0/8', 'fd00::/8'] }).check(url)).toBeUndefined();
});

test('a name may be called whose addresses are all public, or all allowed', async () => {
  const resolve = await startNameServer({ 'public.example.com': [['93.184.216.34', '2606:4700:4700::1111']], 'inside.example.com': [['10.0.0.1', 'fd00::1']], 'both.example.com': [['93.184.216.34', '10.0.0.1']] });
  const open = new TargetPolicy({ allowedNetworks: [], resolve });
  const policy = new TargetPolicy({ allowedNetworks: ['10.0.0.0/8', 'fd00::/8'], resolve });
  expect(await open.checkResolved('https://public.example.com/')).toBeUndefined();
  expect(await policy.checkResolved('https://public.example.com/')).toBeUndefined();
  expect(await policy.checkResolved('http://inside.example.com:8080/')).toBeUndefined();
  expect(await policy.checkResolved('https://both.example.com/')).toBeUndefined();
});

test('without an allowed network the address of a URL does not need a name server', async () => {
  expect(await new TargetPolicy({ allowedNetworks: [] }).checkResolved('https://93.184.216.34/')).toBeUndefined();
});

test('the system’s own names count where networks are allowed', async () => {
  expect(await new TargetPolicy({ allowedNetworks: ['127.0.0.0/8', '::1/128'] }).checkResolved('http://localhost:3000/')).toBeUndefined();
  expect(await new TargetPolicy({ allowedNetworks: ['10.0.0.0/8'] }).checkResolved('http://localhost:3000/')).toBe('the host name leads to an address that is not public');
});

test('a lookup gives all addresses, or the first one to who wants one', async () => {
  const policy = new TargetPolicy({ allowedNetworks: [], resolve: await startNameServer({ 'public.example.com': [['2606:4700:4700::1111', '93.184.216.34']] }) });
  const look = (all: boolean) => new Promise((resolve) => { policy.lookup('anywhere')('public.example.com', { all }, (...answer) => resolve(answer)); });
  expect(await look(true)).toEqual([null, [{ address: '93.184.216.34', family: 4 }, { address: '2606:4700:4700::1111', family: 6 }]]);
  expect(await look(false)).toEqual([null, '93.184.216.34', 4]);
});

test.each(['10.0.0.0', '10/8', '10.0.0.0/33', '0x0a.0.0.0/8', 'fd00::/129', '::ffff:10.0.0.0/104', 'localhost', ''])('a network that is none stops the start: %j', (network) => {
  expect(() => new TargetPolicy({ allowedNetworks: ['10.0.0.0/8', network] })).toThrow(`an allowed network must be in CIDR notation, such as 10.0.0.0/8 or fd00::/8; got ${JSON.stringify(network)}`);
});
