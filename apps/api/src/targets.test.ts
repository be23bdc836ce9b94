import { type Address, TargetPolicy } from '@millrace/delivery';
import { FaultList } from '@millrace/protocol';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Targets } from './targets.ts';

beforeEach(() => { vi.useFakeTimers(); });
afterEach(() => { vi.useRealTimers(); });

const publicly: Address[] = [{ address: '93.184.215.14', family: 4 }];
const privately: Address[] = [{ address: '10.0.0.1', family: 4 }];

/** Targets over names that mean what `names` says; a name that is missing there never answers. */
function targetsOver(names: Record<string, Address[]>) {
  const asked: string[] = [];
  const resolve = (name: string) => {
    asked.push(name);
    return names[name] ? Promise.resolve(names[name]) : new Promise<never>(() => {});
  };
  const targets = new Targets(new TargetPolicy({ allowedNetworks: [], resolve }));
  const faultsOf = async (url: unknown) => {
    const faults = new FaultList();
    await targets.check(url, faults, '#/url');
    return faults.faults;
  };
  return { asked, faultsOf };
}

const refused = [{ pointer: '#/url', detail: expect.stringMatching(/\w/) as string }];

test('a target that its own text gives away is refused without a lookup', async () => {
  const { asked, faultsOf } = targetsOver({});
  for (const url of ['http://example.com/', 'https://10.0.0.1/', 'https://localhost/', 'https://user@example.com/', 'nonsense']) expect(await faultsOf(url)).toEqual(refused);
  for (const other of [undefined, 5, null, {}]) expect(await faultsOf(other)).toEqual([]);
  expect(asked).toEqual([]);
});

test('a fault of the schema at the same place is enough', async () => {
  const faults = new FaultList();
  faults.add('#/url', 'must be shorter');
  await new Targets(new TargetPolicy({ allowedNetworks: [] })).check('nonsense', faults, '#/url');
  expect(faults.faults).toEqual([{ pointer: '#/url', detail: 'must be shorter' }]);
});

test('a name that leads inside is refused; a host is looked up once a minute, whatever the path', async () => {
  const names = { 'inside.example.com': privately, 'outside.example.com': publicly };
  const { asked, faultsOf } = targetsOver(names);
  const together = await Promise.all(['/a', '/b', '/c?d=1'].map((path) => faultsOf(`https://inside.example.com${path}`)));
  expect(together).toEqual([refused, refused, refused]);
  expect(await faultsOf('https://outside.example.com/')).toEqual([]);
  expect(asked).toEqual(['inside.example.com', 'outside.example.com']);

  names['outside.example.com'] = privately;
  await vi.advanceTimersByTimeAsync(59_000);
  expect(await faultsOf('https://outside.example.com/')).toEqual([]);
  await vi.advanceTimersByTimeAsync(1000);
  expect(await faultsOf('https://outside.example.com/')).toEqual(refused);
});

test('a name server that does not answer is waited for once, for two seconds', async () => {
  const { asked, faultsOf } = targetsOver({});
  const waiting = faultsOf('https://slow.example.com/');
  await vi.advanceTimersByTimeAsync(1999);
  const first = await Promise.race([waiting, Promise.resolve('still waiting')]);
  expect(first).toBe('still waiting');
  await vi.advanceTimersByTimeAsync(1);
  expect(await waiting).toEqual([]);
  expect(await faultsOf('https://slow.example.com/')).toEqual([]);
  expect(asked).toEqual(['slow.example.com']);
});

test('so many lookups at once, and no more', async () => {
  const { asked, faultsOf } = targetsOver({});
  const waiting = Array.from({ length: 200 }, (_, index) => faultsOf(`https://host-${index}.example.com/`));
  expect(await Promise.all(waiting.slice(64))).toEqual(Array.from({ length: 136 }, () => []));
  await vi.advanceTimersByTimeAsync(2000);
  await Promise.all(waiting);
  expect(asked).toHaveLength(64);
});
