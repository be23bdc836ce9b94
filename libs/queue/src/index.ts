export { Admission, type PoolLoad } from './admission.ts';
export { untilArrival } from './arrivals.ts';
export { type BackfillPageOf, type BackfillQuery, BackfillStore, HeldBackfill, leaseMs as backfillLeaseMs, LeaseLost } from './backfills.ts';
export { Cancellations } from './cancellations.ts';
export { ChunkMarks, type Span, type Suspicion } from './chunk-marks.ts';
export { Chunks, type NewChunk, type QueuedChunk } from './chunks.ts';
export { connect, type Redis, rethrowUnavailable, type Role } from './connection.ts';
export { type ChunkClaim, type Claim, Consumer, HandBack, type Handlers, lockMs } from './consumer.ts';
export {
  type Attempt, type ClaimedDelivery, type DeliveryPage, type DeliveryQuery, type DeliveryRecord, DeliveryStore, type Finished, hostOf, type Lease, type NewDelivery, type Target,
  type UnwrittenDelivery, unwrittenOf,
} from './deliveries.ts';
export { type Decision, publishDecision } from './decision.ts';
export { allowedNetworks, deliverySettings } from './delivery-settings.ts';
export { type Demand, type LaneDemand, type ModelWork, readDemand, type Rows } from './demand.ts';
export { type DemandRates, DemandSampler } from './demand-rates.ts';
export { type Endpoint, type EndpointHealth, EndpointStore, hears, type KnownEndpoint, type NewEndpoint, type Secrets } from './endpoints.ts';
export { type Cursor, cursorPattern, type Feed, type FeedEvent, type FeedPage, feedStart, followFeed, readFeed } from './feed.ts';
export { IdempotencyKeys, type Reservation, type Reserved } from './idempotency.ts';
export { KeyRate, type Quota, rateWindowSeconds } from './key-rate.ts';
export { KeyRing } from './key-ring.ts';
export { KeyStore, type NewKey } from './keys.ts';
export { listPredictions, type ListQuery, type Page, type Position, type Summary } from './listing.ts';
export { autoscalerLease, type KeyLease } from './lease.ts';
export { StartListeners } from './listeners.ts';
export { type Found, lookup, lookupSettled, type Wanted } from './lookup.ts';
export { type BundleMarks, Marks } from './marks.ts';
export { backfillsPool } from './names.ts';
export { Payloads } from './payloads.ts';
export { type Payload, Producer } from './producer.ts';
export { type Progress, readProgress } from './progress.ts';
export { type RedisSettings, redisSettings } from './redis-settings.ts';
export { Presence, type Replica, type ReplicaState, replicaStates } from './replicas.ts';
export { ReplyReader } from './replies.ts';
export { ReplyQueues } from './reply-queues.ts';
export { type BackfillResult, type PredictionResult, readPools, type ResultEvent, ResultsReader, type ResultsReaderOptions, tellStarted } from './results-queue.ts';
export { findWeaknesses, untilReady } from './servers.ts';
export { type Settlement, Settler } from './settle.ts';
export { Work } from './work.ts';
