import { type Lane, lanes, MillraceError, parseVersionName, PoolDemand, poolPattern, problemResponses } from '@millrace/protocol';
import type { Admission, Demand, LaneDemand, PoolLoad } from '@millrace/queue';
import type { FastifyInstance } from 'fastify';
import Type from 'typebox';

export interface AutoscaleRoutes {
  readonly admission: Admission;
  readonly pools: () => ReadonlySet<string>;
}

/** What a pool is asked for and what serves it: as this node last read it, twice a second. */
export function autoscaleRoutes(app: FastifyInstance, { admission, pools }: AutoscaleRoutes): void {
  app.get<{ Params: { pool: string } }>('/autoscale/:pool', {
    config: { scope: 'metrics:read' },
    schema: {
      tags: ['operations'],
      summary: 'Demand of a pool, and how many workers it has and should have',
      params: Type.Object({ pool: Type.String({ pattern: poolPattern }) }),
      response: { 200: PoolDemand, ...problemResponses('malformed-request', 'not-found', 'queue-unavailable') },
    },
  }, ({ params: { pool } }) => {
    const load = admission.pools.get(pool);
    if (load) return presentDemand(pool, load);
    if (!pools().has(pool)) throw new MillraceError('not-found', `No model belongs to a pool "${pool}"`);
    throw new MillraceError('queue-unavailable', 'Redis has not been read for some seconds', { retryAfterSeconds: 2 });
  });
}

function presentDemand(pool: string, { demand, rates }: PoolLoad): PoolDemand {
  const ofLanes = lanes.map((lane) => figuresOf(demand.lanes[lane], rates.arrivalRowsPerSecond[lane], rates.backlogSeconds[lane]));
  const sum = (figure: keyof PoolDemand['lanes'][Lane]) => ofLanes.reduce((total, figures) => total + figures[figure], 0);
  return {
    pool,
    rows: sum('rows'),
    rows_waiting: sum('rows_waiting'),
    rows_running: sum('rows_running'),
    oldest_age_seconds: Math.max(...ofLanes.map((figures) => figures.oldest_age_seconds)),
    arrival_rows_per_second: sum('arrival_rows_per_second'),
    backlog_seconds: sum('backlog_seconds'),
    rows_to_come: demand.toCome.rows,
    workers: workersOf(demand),
    desired_workers: demand.decision?.desiredWorkers ?? null,
    reason: demand.decision?.reason ?? null,
    lanes: Object.fromEntries(lanes.map((lane, place) => [lane, ofLanes[place]])) as PoolDemand['lanes'],
    models: [...demand.models.keys()].toSorted().map((key) => {
      const { name, version } = parseVersionName(key);
      return { model: name, version, seconds_per_row: rates.secondsPerRow.get(key) ?? null, online: rowsOf(demand, 'online', key), bulk: rowsOf(demand, 'bulk', key) };
    }),
  };
}

function figuresOf({ rows, running, oldestSeconds }: LaneDemand, arrivalRowsPerSecond: number, backlogSeconds: number): PoolDemand['lanes'][Lane] {
  return {
    rows, rows_waiting: rows - running, rows_running: running,
    oldest_age_seconds: oldestSeconds, arrival_rows_per_second: arrivalRowsPerSecond, backlog_seconds: backlogSeconds,
  };
}

function rowsOf(demand: Demand, lane: Lane, model: string): PoolDemand['models'][number][Lane] {
  const { waiting, running } = demand.lanes[lane].models.get(model) ?? { waiting: 0, running: 0 };
  return { rows_waiting: waiting, rows_running: running };
}

function workersOf({ replicas }: Demand): PoolDemand['workers'] {
  const count = (wanted: string) => replicas.filter(({ state }) => state === wanted).length;
  const threads = replicas.reduce((sum, replica) => sum + (replica.state === 'ready' ? replica.threads : 0), 0);
  return { ready: count('ready'), starting: count('starting'), draining: count('draining'), threads };
}
