// Whether others than this machine can reach an address, and that nobody opens it to them without keys.
import { lookup } from 'node:dns/promises';
import { BlockList } from 'node:net';
import type { KeyRing } from '@millrace/queue';

const loopback = new BlockList();
loopback.addSubnet('127.0.0.0', 8, 'ipv4');
loopback.addAddress('::1', 'ipv6');

/** True where an address that the host stands for is not this machine's own. Rejects where the name cannot be resolved. */
export async function isExposed(host: string): Promise<boolean> {
  const addresses = await lookup(host, { all: true });
  return !addresses.every(({ address, family }) => loopback.check(address, family === 6 ? 'ipv6' : 'ipv4'));
}

/** Rejects where everybody could come in. */
export function refuseOpenDoor(host: string, exposed: boolean, keys: KeyRing): void {
  if (!exposed || !keys.isEmpty) return;
  throw new Error(`There is no API key yet, so the API does not listen on ${host}, where others could reach it: make a key with \`millrace keys create --tenant <name>\`, or listen on 127.0.0.1`);
}
