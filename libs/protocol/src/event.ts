// Events: what those are told who do not wait for a prediction.
import { hash } from 'node:crypto';
import type { PredictionEvent } from './bundle.ts';
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

/** A delivery's id: the time of its event, then a digest of event and target. Time-ordered, and the same for whoever makes it. */
export function deliveryId(event: string, target: string, time: number): string {
  return earliestDeliveryId(time) + hash('sha256', `${event}\n${target}`).slice(0, 20);
}

/** Before every id of a delivery whose event was at this time (milliseconds since the epoch) or later. */
export function earliestDeliveryId(time: number): string {
  return `dlv_${Math.max(0, time).toString(16).padStart(12, '0')}`;
}

/** Bytes of outputs and labels as JSON: receivers can be expected to take bodies of 20 kB (Standard Webhooks 1.0). */
const longestOutputs = 16 * 1024;
const longestReply = 256 * 1024;

/** The body of a webhook: `thin` tells of the prediction without its outputs. */
export function thinBody(predictionId: string, head: Head): string {
  return bodyOf(eventOfHead(head), 'outcome' in head ? head.settledAt : head.startedAt ?? head.acceptedAt, presentSummary(predictionId, head));
}

/** The body of a webhook with the outputs, or with `outputs_truncated` where they are too long. */
export function fullBody(predictionId: string, record: ResultRecord): string {
  return bodyOf(eventOfHead(record), record.settledAt, withOutputsUpTo(longestOutputs, predictionId, record));
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
