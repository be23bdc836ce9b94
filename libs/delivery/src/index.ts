export { type Answered, type Attempt, type AttemptResult, type Failed, type FailureReason, type Refused, Sender, type SenderOptions } from './attempt.ts';
export { Breaker, hostFailed } from './breaker.ts';
export { type AttemptsSoFar, defaultDelays, nextAttemptMs, readDelays, type Verdict, verdictOf } from './schedule.ts';
export { newSecret, signatureOf } from './signature.ts';
export { type Address, type Resolve, TargetPolicy, type TargetPolicyOptions } from './target.ts';
