export { type BundleLimits, Coalescer, type CoalescerOptions, type Sending, type Weight } from './coalescer.ts';
export { type MicroBatch, MicroBatcher, type Next, type WorkItem } from './micro-batcher.ts';
export { bundlesToClaim, type ClaimSituation } from './policy.ts';
