export { Cancellations } from './cancellations.ts';
export { asQueueUnavailable, connect, type Redis, untilReady } from './connection.ts';
export { type Claim, Consumer, HandBack, lockMs } from './consumer.ts';
export { type Depth, readDepth } from './depth.ts';
export { type Found, lookup } from './lookup.ts';
export { Payloads } from './payloads.ts';
export { type Payload, Producer } from './producer.ts';
export { ReplyReader } from './replies.ts';
export { type SettledBundle, type Settlement, Settler } from './settle.ts';
