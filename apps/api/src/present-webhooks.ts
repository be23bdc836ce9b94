// Endpoints, secrets and deliveries as the API shows them, made from what Redis keeps of them.
import type { Delivery, WebhookEndpoint, WebhookSecret } from '@millrace/protocol';
import type { DeliveryRecord, KnownEndpoint, Secrets } from '@millrace/queue';

export function presentEndpoint({ endpoint, health: { disabled, failingSince } }: KnownEndpoint): WebhookEndpoint {
  const { id, url, description, events, payload, createdAt } = endpoint;
  return {
    id,
    object: 'webhook_endpoint',
    url, description, events: [...events], payload,
    enabled: disabled === undefined,
    disabled_at: timeOrNull(disabled?.at),
    disabled_reason: disabled?.reason ?? null,
    failing_since: timeOrNull(failingSince),
    created_at: time(createdAt),
  };
}

export function presentSecrets({ current, old }: Secrets, now: number): WebhookSecret {
  return { secret: current, old_secret_expires_at: old && old.until > now ? time(old.until) : null };
}

export function presentDelivery({ id, status, eventId, event, predictionId, backfillId, target, createdAt, nextAttemptAt, reason, attempts }: DeliveryRecord): Delivery {
  const webhook = target.kind === 'webhook' ? target : undefined;
  return {
    id,
    object: 'delivery',
    status,
    event_id: eventId,
    event,
    prediction_id: predictionId ?? null,
    backfill_id: backfillId ?? null,
    endpoint_id: webhook?.endpointId ?? null,
    url: webhook?.url ?? null,
    reply_queue: target.kind === 'reply-queue' ? target.queue : null,
    created_at: time(createdAt),
    next_attempt_at: timeOrNull(nextAttemptAt),
    reason: reason ?? null,
    attempts: attempts.map(({ at, durationMs, status: statusCode, error, excerpt }) => ({
      at: time(at), duration_ms: durationMs, status_code: statusCode ?? null, error: error ?? null, response_excerpt: excerpt ?? null,
    })),
  };
}

function time(ms: number): string {
  return new Date(ms).toISOString();
}

function timeOrNull(ms: number | undefined): string | null {
  return ms === undefined ? null : time(ms);
}
