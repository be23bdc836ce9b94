import { Webhook } from 'standardwebhooks';
import { expect, test } from 'vitest';
import { newSecret, signatureOf } from './signature.ts';

const body = '{"type":"prediction.completed","data":{"model":"größe"}}';
const now = () => Math.floor(Date.now() / 1000);

function verify(secret: string, changes: Partial<Record<'id' | 'timestamp' | 'signature' | 'body', string>> & { signedBy?: readonly string[] } = {}): unknown {
  const seconds = now();
  const { id = 'evt_1', timestamp = String(seconds), signature = signatureOf('evt_1', seconds, body, changes.signedBy ?? [secret]) } = changes;
  return new Webhook(secret).verify(changes.body ?? body, { 'webhook-id': id, 'webhook-timestamp': timestamp, 'webhook-signature': signature });
}

test('a secret is whsec_ and 32 random bytes in base64', () => {
  const secret = newSecret();
  expect(secret).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  expect(newSecret()).not.toBe(secret);
});

test('the public library verifies a signature, and nothing that was changed', () => {
  const secret = newSecret();
  expect(verify(secret)).toEqual(JSON.parse(body));
  expect(() => verify(secret, { id: 'evt_2' })).toThrow('No matching signature');
  expect(() => verify(secret, { timestamp: String(now() - 1) })).toThrow('No matching signature');
  expect(() => verify(secret, { body: `${body} ` })).toThrow('No matching signature');
  expect(() => verify(secret, { signedBy: [newSecret()] })).toThrow('No matching signature');
});

test('while a secret is rotated, the old and the new one both verify', () => {
  const [before, after, other] = [newSecret(), newSecret(), newSecret()];
  expect(signatureOf('evt_1', 1, body, [after, before])).toMatch(/^v1,[^ ]{44} v1,[^ ]{44}$/);
  for (const secret of [before, after]) expect(verify(secret, { signedBy: [after, before] })).toEqual(JSON.parse(body));
  expect(() => verify(other, { signedBy: [after, before] })).toThrow('No matching signature');
});

test('the known vector of the standard', () => {
  expect(signatureOf('msg_p5jXN8AQM9LWM0D4loKWxJek', 1_614_265_330, '{"test": 2432232314}', ['whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw']))
    .toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
});
