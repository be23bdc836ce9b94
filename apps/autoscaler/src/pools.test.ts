import { expect, test } from 'vitest';
import { poolsPattern, readPools } from './pools.ts';

test('the setting gives the bounds of each pool', () => {
  expect([...readPools('default=0..4,gpu=1..1')]).toEqual([['default', { minReplicas: 0, maxReplicas: 4 }], ['gpu', { minReplicas: 1, maxReplicas: 1 }]]);
  expect(() => readPools('default=4..0')).toThrow('got default=4..0');
});

test.each(['', 'default', 'default=4', 'Default=0..4', 'default=0..4,', 'default=-1..4'])('%s is refused', (text) => {
  expect(text).not.toMatch(new RegExp(poolsPattern));
});
