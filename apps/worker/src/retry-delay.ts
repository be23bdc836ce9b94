// Whether and when a prediction that failed is run again. Pure.
import { attempts, type BundledPrediction, errorCatalogue, type MillraceError } from '@millrace/protocol';

export interface FailedAttempt {
  readonly error: MillraceError;
  /** The one that failed: 1 for the first. */
  readonly attempt: number;
  readonly prediction: Pick<BundledPrediction, 'maxAttempts' | 'deadlineAt'>;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** From 0 up to 1. */
  readonly random: number;
}

const firstDelayMs = 1000;
const longestDelayMs = 60_000;

/**
 * Milliseconds until the next attempt: doubled with each, less up to a half so that predictions which failed together
 * do not come back together. Undefined where the failure would not pass, was the last one allowed, or the deadline comes first.
 */
export function retryDelayMs({ error, attempt, prediction: { maxAttempts = attempts.default, deadlineAt = Infinity }, now, random }: FailedAttempt): number | undefined {
  if (!errorCatalogue[error.code].retryable || attempt >= maxAttempts) return undefined;
  const delayMs = Math.round(Math.min(longestDelayMs, firstDelayMs * 2 ** (attempt - 1)) * (1 - random / 2));
  return now + delayMs < deadlineAt ? delayMs : undefined;
}
