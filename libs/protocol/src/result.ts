// What is settled: one record per prediction, written once.
import type { Echo, TraceHeaders } from './bundle.ts';
import type { ErrorCode } from './errors.ts';
import type { Outcome } from './prediction.ts';
import type { WireTensors } from './tensor.ts';

/** Replies longer than this are not sent along with the wake-up; the API reads the record from the results hash. */
export const inlineReplyLength = 16 * 1024;

/** How long a prediction spent where. Milliseconds. */
export interface Timing {
  /** From acceptance to the claim by a worker. */
  readonly queueMs: number;
  /** From the claim to the start of its (first) micro-batch. */
  readonly batchWaitMs: number;
  /** In `session.run`, summed over its micro-batches. */
  readonly inferenceMs: number;
  /** Rows of the (largest) micro-batch that it ran in. */
  readonly batchRows: number;
}

export interface ResultRecord {
  readonly outcome: Outcome;
  readonly model: string;
  readonly version: number;
  readonly rows: number;
  /** Milliseconds since the epoch. `startedAt` is absent where it never ran. */
  readonly acceptedAt: number;
  readonly startedAt?: number;
  readonly settledAt: number;
  /** How often a run of it was begun and has ended; 1 where it is absent. */
  readonly attempts?: number;
  /** All outputs of the model, `[rows, …]` each where the model has a batch dimension. */
  readonly outputs?: WireTensors;
  /** One label a row, where the model has labels. */
  readonly labels?: readonly string[];
  readonly error?: { readonly code: ErrorCode; readonly detail: string };
  readonly timing?: Timing;
  readonly echo?: Echo;
  readonly trace?: TraceHeaders;
}
