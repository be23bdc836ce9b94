import { httpLimits, PredictionPage, presentSummary, problemResponses, type State, states } from '@millrace/protocol';
import type { Position, Summary } from '@millrace/queue';
import Type from 'typebox';
import type { FastifyInstance } from 'fastify';
import { ModelFilter, namesOf } from '../filters.ts';
import { type Filters, readPageToken, writePageToken } from '../page-token.ts';
import type { Predictions } from '../predictions.ts';

const { pageSize } = httpLimits;
const time = (description: string) => Type.Optional(Type.String({ format: 'date-time', description }));
const List = Type.Object({
  status: Type.Optional(Type.Enum([...states])),
  model: Type.Optional(ModelFilter),
  created_after: time('Only what was created after this time'),
  created_before: time('Only what was created before this time'),
  page_size: Type.Optional(Type.String({ pattern: '^[0-9]{1,9}$', description: `Predictions in a page: ${pageSize.default} by default, at most ${pageSize.most} (more becomes that)` })),
  page_token: Type.Optional(Type.String({ description: 'The `next_page_token` of the page before; the filters must stay the same' })),
}, { additionalProperties: false });

interface ListQuery {
  readonly status?: State;
  readonly model?: string;
  readonly created_after?: string;
  readonly created_before?: string;
  readonly page_size?: string;
  readonly page_token?: string;
}

/** Listing predictions, newest first (AIP-132, AIP-158). */
export function listRoutes(app: FastifyInstance, { predictions }: { predictions: Predictions }): void {
  app.get<{ Querystring: ListQuery }>('/predictions', {
    config: { scope: 'predict:read' },
    schema: {
      tags: ['predictions'],
      summary: 'List predictions, newest first',
      description: 'Entries have no `outputs` and `labels`. A page may be short, even empty: only an empty `next_page_token` says that it is the last one.',
      querystring: List,
      response: { 200: PredictionPage, ...problemResponses('malformed-request', 'queue-unavailable') },
    },
  }, async ({ caller: { tenant }, query: { status, model, created_after: after, created_before: before, page_size: size = '0', page_token: token = '' } }) => {
    const filters: Filters = [tenant, status, model, after, before];
    const { predictions: listed, next } = await predictions.list({
      tenant,
      matches: (summary) => (status === undefined || status === statusOf(summary)) && (model === undefined || namesOf(summary).includes(model)),
      ...(after !== undefined && { acceptedAfter: Date.parse(after) }),
      ...(before !== undefined && { acceptedBefore: Date.parse(before) }),
      ...(token !== '' && { after: readPosition(token, filters) }),
      limit: Number(size) === 0 ? pageSize.default : Math.min(Number(size), pageSize.most),
    });
    return { predictions: listed.map(({ id, summary }) => presentSummary(id, summary)), next_page_token: next ? writePageToken(`${next.bundle}-${next.index}`, filters) : '' };
  });
}

function readPosition(token: string, filters: Filters): Position {
  const [, bundle = '', index] = readPageToken(token, filters, /^([0-9a-f]{32})-(\d{1,2})$/);
  return { bundle, index: Number(index) };
}

function statusOf(summary: Summary): State {
  return 'outcome' in summary ? summary.outcome : summary.state;
}
