import fc from 'fast-check';
import { expect, test } from 'vitest';
import { keyDigest, newKeyText, readKeyId } from './api-key.ts';

test('a new key has the form that it is told by, and its own id', () => {
  const text = newKeyText();
  expect(text).toMatch(/^mrk_[0-9A-Za-z]{12}_[0-9A-Za-z]{36}$/);
  expect(readKeyId(text)).toBe(text.slice(4, 16));
  expect(newKeyText()).not.toBe(text);
});

test('a key with any character changed, cut off or added is no key', () => {
  const text = newKeyText();
  fc.assert(fc.property(fc.nat(text.length - 1), fc.string({ unit: 'grapheme-ascii', minLength: 1, maxLength: 1 }), (at, other) => {
    fc.pre(other !== text[at]);
    expect(readKeyId(text.slice(0, at) + other + text.slice(at + 1))).toBeUndefined();
  }));
  expect([text.slice(0, -1), `${text}0`, ` ${text}`, `${text}\n`, ''].map(readKeyId)).toEqual(Array.from({ length: 5 }));
});

test('the digest is SHA-256 of the whole text', () => {
  expect(keyDigest('abc').toString('hex')).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad');
});
