export { Coalescer } from './coalescer.ts';
export { type MicroBatch, MicroBatcher } from './micro-batcher.ts';
export { bundlesToClaim } from './policy.ts';
