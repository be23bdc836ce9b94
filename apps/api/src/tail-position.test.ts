import { expect, test } from 'vitest';
import { readPosition, writePosition } from './tail-position.ts';

test.each([
  ['a pool', { default: '1732-0' }, 'default:1732-0'],
  ['several, and one in the middle of a bundle', { default: '1732-0', gpu: '1732-3-12' }, 'default:1732-0,gpu:1732-3-12'],
])('a position of %s is text and back', (_name, cursors, text) => {
  const position = new Map(Object.entries(cursors));
  expect(writePosition(position)).toBe(text);
  expect(readPosition(text)).toEqual(position);
});

test.each([
  '', 'default', 'default:', 'default:1', 'default:1-', 'default:1-1-', 'default:1-1-1-1', 'default:x-1', ':1-1', 'Default:1-1', '{a}:1-1', 'a:1-1,', ',a:1-1', 'a:1-1 b:1-1',
  `a:${'9'.repeat(16)}-1`, 'succeeded-1',
])('"%s" is refused', (text) => {
  expect(() => readPosition(text)).toThrowError(expect.objectContaining({ code: 'malformed-request' }) as Error);
});
