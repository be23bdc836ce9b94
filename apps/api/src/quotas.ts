// What a key may use up: predictions a minute, and requests at once. The fields are those of
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/10/
import { MillraceError } from '@millrace/protocol';
import { type KeyRate, type Quota, rateWindowSeconds } from '@millrace/queue';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

declare module 'fastify' {
  interface FastifyRequest {
    /** What is left of the key's rate, once it was asked for. */
    quota: Promise<Quota> | undefined;
  }
  interface FastifyContextConfig {
    /** How many predictions a request makes. They count when it comes, whether they turn out valid or not. */
    predictions?: (body: unknown) => number;
  }
}

/** Holds callers to the limits of their keys. To be called after `admitCallers`, before any route is declared. */
export function holdToQuotas(app: FastifyInstance, rate: KeyRate): void {
  app.decorateRequest('quota');
  limitInFlight(app);
  app.addHook('onRoute', (route) => {
    const predictions = route.config?.predictions;
    if (predictions) route.preHandler = (request: FastifyRequest) => take(request, rate, predictions(request.body));
  });
  app.addHook('onSend', (request, reply, payload, done) => {
    const { caller: { id = '', limits }, quota } = request;
    const perMinute = limits?.predictionsPerMinute;
    if (perMinute === undefined) return done(null, payload);
    // An answer must not fail for want of these fields.
    void (quota ?? rate.take(id, perMinute, 0)).then((known) => announce(reply, perMinute, known), () => {}).finally(() => done(null, payload));
  });
}

function limitInFlight(app: FastifyInstance): void {
  const inFlight = new Map<string, number>();
  app.addHook('onRequest', ({ caller: { id = '', limits } }, reply, done) => {
    if (limits?.requestsInFlight === undefined) return done();
    const count = inFlight.get(id) ?? 0;
    if (count >= limits.requestsInFlight) {
      return done(new MillraceError('rate-limited', `The API key may have ${limits.requestsInFlight} requests in flight at once`, { retryAfterSeconds: 1 }));
    }
    inFlight.set(id, count + 1);
    // Comes also where the client has left.
    reply.raw.once('close', () => {
      const left = (inFlight.get(id) ?? 1) - 1;
      if (left > 0) inFlight.set(id, left);
      else inFlight.delete(id);
    });
    done();
  });
}

async function take(request: FastifyRequest, rate: KeyRate, wanted: number): Promise<void> {
  const { id = '', limits } = request.caller;
  const perMinute = limits?.predictionsPerMinute;
  if (perMinute === undefined) return;
  if (wanted > perMinute) throw new MillraceError('payload-too-large', `The API key may make ${perMinute} predictions a minute, this batch has ${wanted}; send it in parts`);
  const { granted, left, resetSeconds } = await (request.quota = rate.take(id, perMinute, wanted));
  if (!granted) {
    throw new MillraceError('rate-limited', `The API key may make ${perMinute} predictions a minute and has ${left} left; all of them are back in ${resetSeconds} s`, { retryAfterSeconds: resetSeconds });
  }
}

function announce(reply: FastifyReply, perMinute: number, { left, resetSeconds }: Quota): void {
  void reply
    .header('ratelimit-policy', `"predictions";q=${perMinute};w=${rateWindowSeconds}`)
    .header('ratelimit', `"predictions";r=${left};t=${resetSeconds}`);
}
