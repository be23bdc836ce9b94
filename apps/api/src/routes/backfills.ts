import {
  Backfill, BackfillPage, BackfillRequest, type BackfillState, backfillStates, type BackfillWish, backfillWishes, httpLimits, presentBackfill, problemResponses,
} from '@millrace/protocol';
import Type from 'typebox';
import type { FastifyInstance } from 'fastify';
import type { Backfills } from '../backfills.ts';
import { formOf } from '../form.ts';
import { idempotencyOf, idempotencyOfBackfill } from '../idempotency.ts';
import { type Filters, readPageToken, writePageToken } from '../page-token.ts';

const { pageSize } = httpLimits;
const idForm = /^bf_[0-9a-f]{32}$/;
const time = (description: string) => Type.Optional(Type.String({ format: 'date-time', description }));
const Id = Type.Object({ id: Type.String({ description: 'The backfill’s id' }) });
interface OfId { Params: { id: string } }
const SubmitHeaders = Type.Object({
  'idempotency-key': Type.Optional(Type.String({ description: 'Repeated with the same body, the submission answers with the backfill that the first one made; with another body it is refused' })),
});
const List = Type.Object({
  status: Type.Optional(Type.Enum([...backfillStates])),
  model: Type.Optional(Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,127}(@[1-9][0-9]{0,8})?$', description: '`name` or `name@version`' })),
  created_after: time('Only what was created after this time'),
  created_before: time('Only what was created before this time'),
  page_size: Type.Optional(Type.String({ pattern: '^[0-9]{1,9}$', description: `Backfills in a page: ${pageSize.default} by default, at most ${pageSize.most} (more becomes that)` })),
  page_token: Type.Optional(Type.String({ description: 'The `next_page_token` of the page before; the filters must stay the same' })),
}, { additionalProperties: false });

interface ListQuery {
  readonly status?: BackfillState;
  readonly model?: string;
  readonly created_after?: string;
  readonly created_before?: string;
  readonly page_size?: string;
  readonly page_token?: string;
}

const asking: Readonly<Record<BackfillWish, { readonly summary: string; readonly description: string }>> = {
  pause: { summary: 'Pause a backfill', description: 'Chunks that workers run are finished; nothing that is done is lost.' },
  resume: { summary: 'Resume a backfill', description: 'One that is paused, or one that failed and whose cause is gone: it goes on where it was.' },
  cancel: { summary: 'Cancel a backfill', description: 'For good. It leaves no output.' },
  retry: { summary: 'Run failed rows again', description: 'Of a completed backfill; its output is replaced once they have been run.' },
};

/** Making backfills, reading them, and asking something of them. */
export function backfillRoutes(app: FastifyInstance, { backfills }: { readonly backfills: Backfills }): void {
  const tags = ['backfills'];

  app.post('/backfills', {
    config: { scope: 'backfills:write' },
    attachValidation: true,
    schema: {
      tags,
      summary: 'Run a model over all rows of a file',
      description: 'Answers 201 once the backfill is safe. Its model version is pinned then. What only the input can tell is checked next: a backfill that does not fit it fails, with the same faults in `error`.',
      headers: SubmitHeaders,
      body: BackfillRequest,
      response: { 201: Backfill, ...problemResponses('malformed-request', 'place-not-allowed', 'unknown-model', 'payload-too-large', 'unsupported-media-type', 'invalid-backfill', 'backfills-off') },
    },
  }, async (request, reply) => {
    const { body, faults } = formOf<BackfillRequest>(request);
    const reservation = idempotencyOfBackfill(idempotencyOf(request.headers['idempotency-key'], request.body));
    const { record, replayed } = await backfills.create(body, request.caller.tenant, faults, reservation);
    if (replayed) void reply.header('idempotency-replayed', 'true');
    return reply.code(201).header('location', `/api/v1/backfills/${record.id}`).send(presentBackfill(record));
  });

  app.get<{ Querystring: ListQuery }>('/backfills', {
    config: { scope: 'predict:read' },
    schema: {
      tags,
      summary: 'List backfills, newest first',
      description: 'A page may be short, even empty: only an empty `next_page_token` says that it is the last one.',
      querystring: List,
      response: { 200: BackfillPage, ...problemResponses('malformed-request', 'queue-unavailable') },
    },
  }, async ({ caller: { tenant }, query: { status, model, created_after: after, created_before: before, page_size: size = '0', page_token: token = '' } }) => {
    const filters: Filters = [tenant, status, model, after, before];
    const { backfills: listed, next } = await backfills.list({
      tenant,
      matches: ({ createdAt, spec: { model: { name, version } }, progress: { state } }) => (status === undefined || status === state)
        && (model === undefined || model === name || model === `${name}@${version}`)
        && (after === undefined || createdAt > Date.parse(after)) && (before === undefined || createdAt < Date.parse(before)),
      after: token === '' ? undefined : readPageToken(token, filters, idForm)[0],
      limit: Number(size) === 0 ? pageSize.default : Math.min(Number(size), pageSize.most),
    });
    return { backfills: listed.map(presentBackfill), next_page_token: next === undefined ? '' : writePageToken(next, filters) };
  });

  app.get<OfId>('/backfills/:id', {
    config: { scope: 'predict:read' },
    schema: { tags, summary: 'One backfill, and how far it is', params: Id, response: { 200: Backfill, ...problemResponses('not-found', 'queue-unavailable') } },
  }, async ({ params: { id }, caller: { tenant } }) => presentBackfill(await backfills.find(id, tenant)));

  for (const wish of backfillWishes) {
    app.post<OfId>(`/backfills/:id/${wish}`, {
      config: { scope: 'backfills:write' },
      schema: { tags, ...asking[wish], params: Id, response: { 202: Backfill, ...problemResponses('not-found', 'backfill-state', 'queue-unavailable') } },
    }, async ({ params: { id }, caller: { tenant } }, reply) => reply.code(202).send(presentBackfill(await backfills.ask(id, tenant, wish))));
  }
}
