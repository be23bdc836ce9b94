// Certificates for tests, made here because no machine is sure to have openssl. X.509 v3 in DER: RFC 5280, section 4.1.
import { generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

export interface Authority extends Certificate {
  /** A certificate for `localhost` and 127.0.0.1, of a server and of a client alike. */
  issue(): Certificate;
}

const tags = { boolean: 1, integer: 2, bits: 3, bytes: 4, oid: 6, text: 12, sequence: 0x30, set: 0x31, time: 0x18 } as const;
const oids = { ecdsaWithSha256: '2a8648ce3d040302', commonName: '550403', basicConstraints: '551d13', alternativeNames: '551d11' } as const;
const algorithm = der(tags.sequence, der(tags.oid, hex(oids.ecdsaWithSha256)));
const validity = der(tags.sequence, der(tags.time, Buffer.from('20200101000000Z')), der(tags.time, Buffer.from('20991231235959Z')));

export function createAuthority(name: string): Authority {
  const own = keyPair();
  const isAuthority = extension(oids.basicConstraints, der(tags.sequence, der(tags.boolean, hex('ff'))));
  const issue = (subject: string, { publicKey, privateKey }: KeyPair, extensions: Buffer): Certificate => {
    const fields = der(tags.sequence,
      der(0xa0, der(tags.integer, hex('02'))), der(tags.integer, Buffer.concat([hex('01'), randomBytes(8)])), algorithm,
      nameOf(name), validity, nameOf(subject), publicKey.export({ type: 'spki', format: 'der' }), der(0xa3, der(tags.sequence, extensions)));
    const signature = sign('sha256', fields, own.privateKey);
    return { cert: pem(der(tags.sequence, fields, algorithm, der(tags.bits, hex('00'), signature))), key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
  };
  const names = der(tags.sequence, der(0x82, Buffer.from('localhost')), der(0x87, Buffer.of(127, 0, 0, 1)));
  return { ...issue(name, own, isAuthority), issue: () => issue('millrace test', keyPair(), extension(oids.alternativeNames, names)) };
}

interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

function keyPair(): KeyPair {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' });
}

function extension(oid: string, value: Buffer): Buffer {
  return der(tags.sequence, der(tags.oid, hex(oid)), der(tags.bytes, value));
}

function nameOf(text: string): Buffer {
  return der(tags.sequence, der(tags.set, der(tags.sequence, der(tags.oid, hex(oids.commonName)), der(tags.text, Buffer.from(text)))));
}

/** One element: tag, length, contents. */
function der(tag: number, ...contents: readonly Buffer[]): Buffer {
  const body = Buffer.concat(contents);
  if (body.length < 128) return Buffer.concat([Buffer.of(tag, body.length), body]);
  const length = hex(body.length.toString(16).padStart(4, '0'));
  return Buffer.concat([Buffer.of(tag, 0x80 + length.length), length, body]);
}

function hex(text: string): Buffer {
  return Buffer.from(text, 'hex');
}

function pem(bytes: Buffer): string {
  return `-----BEGIN CERTIFICATE-----\n${bytes.toString('base64').replaceAll(/.{64}/g, '$&\n')}\n-----END CERTIFICATE-----\n`;
}
