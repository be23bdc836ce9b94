// Events: what those are told who do not wait for a prediction or a backfill.
import { hash } from 'node:crypto';
import { type BackfillEvent, type BackfillRecord, isActive, isBackfillEnd } from './backfill.ts';
import type { PayloadKind, PredictionEvent } from './bundle.ts';
import { presentBackfill, presentBackfillSummary } from './http-backfills.ts';
import type { ReplyMessage } from './http-webhooks.ts';
import type { Outcome } from './prediction.ts';
import { type Pending, presentPrediction, presentSummary } from './present.ts';
import type { ResultRecord } from './result.ts';

/** By the end that a prediction came to, or `running`. */
export const eventOf: Readonly<Record<Outcome | 'running', PredictionEvent>> = {
  running: 'prediction.started',
  succeeded: 'prediction.completed',
  failed: 'prediction.failed',
  canceled: 'prediction.canceled',
  expired: 'prediction.expired',
};

/** What is known of a prediction without outputs and labels, which may be large: enough for its summary. */
export type Head = Omit<ResultRecord, 'outputs' | 'labels'> | Pending;

export function eventOfHead(head: Head): PredictionEvent {
  return eventOf['outcome' in head ? head.outcome : 'running'];
}

/** The event's time (milliseconds since the epoch), which is the same in every attempt of a prediction. */
export function timeOfHead(head: Head): number {
  return 'outcome' in head ? head.settledAt : head.acceptedAt;
}

/** The same for whoever asks, so that an event that is told twice can be known by it. It has no dot: webhook signatures separate by dots. */
export function eventId(predictionId: string, event: PredictionEvent): string {
  return `evt_${predictionId}_${event.slice('prediction.'.length)}`;
}

/** An event of a backfill, and the backfill as it was then. */
export interface BackfillHead {
  readonly event: BackfillEvent;
  readonly eventId: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly backfill: BackfillRecord;
}

/**
 * What there is to tell of a backfill that is as far as this: how it ended, or how many tenths of its rows have an outcome, once
 * it is known how many it has. Its id stays the same until there is something new to tell. `now`: milliseconds since the epoch.
 */
export function headOfBackfill(backfill: BackfillRecord, now: number): BackfillHead | undefined {
  const { id, progress: { state, completedAt: at = now, round, rows: { total = 0, done, failed } } } = backfill;
  // It may end more than once, where it is resumed or run again.
  if (isBackfillEnd(state)) return { event: `backfill.${state}`, eventId: `evt_${id}_${state}_${at}`, at, backfill };
  const tenths = Math.floor(10 * (done + failed) / total);
  return isActive(state) && tenths >= 1 && tenths <= 9 ? { event: 'backfill.progress', eventId: `evt_${id}_progress_${round}_${10 * tenths}`, at: now, backfill } : undefined;
}

/** A delivery's id: the time of its event, then a digest of event and target. Time-ordered, and the same for whoever makes it. */
export function deliveryId(event: string, target: string, time: number): string {
  return earliestDeliveryId(time) + hash('sha256', `${event}\n${target}`).slice(0, 20);
}

/** Before every id of a delivery whose event was at this time (milliseconds since the epoch) or later. */
export function earliestDeliveryId(time: number): string {
  return `dlv_${Math.max(0, time).toString(16).padStart(12, '0')}`;
}

/** Bytes of outputs and labels, or of a backfill, as JSON: receivers can be expected to take bodies of 20 kB (Standard Webhooks 1.0). */
const longestBody = 16 * 1024;
const longestReply = 256 * 1024;

/** The body of a webhook: `thin` tells of the prediction without its outputs. */
export function thinBody(predictionId: string, head: Head): string {
  return bodyOf(eventOfHead(head), 'outcome' in head ? head.settledAt : head.startedAt ?? head.acceptedAt, presentSummary(predictionId, head));
}

/** The body of a webhook with the outputs, or with `outputs_truncated` where they are too long. */
export function fullBody(predictionId: string, record: ResultRecord): string {
  return bodyOf(eventOfHead(record), record.settledAt, withOutputsUpTo(longestBody, predictionId, record));
}

/** The body of a webhook about a backfill: `full` with what was asked for, or with `request_truncated` where that is too long. */
export function backfillBody({ event, at, backfill }: BackfillHead, payload: PayloadKind): string {
  if (payload === 'thin') return bodyOf(event, at, presentBackfillSummary(backfill));
  const whole = presentBackfill(backfill);
  const fits = Buffer.byteLength(JSON.stringify(whole)) <= longestBody;
  return bodyOf(event, at, fits ? whole : { ...presentBackfillSummary(backfill), request_truncated: true });
}

/** The data of a job in a reply queue. */
export function replyMessage(predictionId: string, record: ResultRecord): string {
  const type = eventOfHead(record);
  const message: Omit<ReplyMessage, 'data'> = { version: 1, id: eventId(predictionId, type), type, timestamp: new Date(record.settledAt).toISOString() };
  return JSON.stringify({ ...message, data: withOutputsUpTo(longestReply, predictionId, record) });
}

/** The body of an event that is not about a prediction. */
export function bodyOf(type: string, time: number, data: object): string {
  return JSON.stringify({ type, timestamp: new Date(time).toISOString(), data });
}

function withOutputsUpTo(length: number, predictionId: string, record: ResultRecord): object {
  const whole = presentPrediction(predictionId, record);
  // What succeeded has outputs: where they are missing, the result has expired.
  const fits = record.outputs === undefined ? record.outcome !== 'succeeded' : Buffer.byteLength(JSON.stringify([whole.outputs, whole.labels])) <= length;
  if (fits) return whole;
  return { ...whole, outputs: null, labels: null, outputs_truncated: true };
}
