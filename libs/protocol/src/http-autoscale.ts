// The public API's body for what decides how many workers run. KEDA's metrics-api scaler reads plain numbers at the top level:
// https://keda.sh/docs/latest/scalers/metrics-api/
import Type, { type Static } from 'typebox';
import { lanes } from './prediction.ts';
import { orNull } from './schema.ts';

const rows = {
  rows_waiting: Type.Integer({ description: 'Accepted, and no worker has claimed them' }),
  rows_running: Type.Integer({ description: 'Of bundles and chunks that workers have claimed' }),
};

const figures = {
  rows: Type.Integer({ description: 'Accepted and not settled: waiting and running' }),
  ...rows,
  oldest_age_seconds: Type.Number({ description: 'Age of the oldest bundle that waits; 0 where none does' }),
  arrival_rows_per_second: Type.Number({ description: 'A mean over about 15 seconds' }),
  backlog_seconds: Type.Number({ description: 'Work-seconds waiting, running and to come: rows × `seconds_per_row`. One inference thread does one a second. Rows of a version that never ran count as none' }),
};

/** One `figure` a lane. */
const byLane = <Figure extends Type.TSchema>(figure: Figure) => Type.Object(Object.fromEntries(lanes.map((lane) => [lane, figure])) as Record<(typeof lanes)[number], Figure>);

export const PoolDemand = Type.Object({
  pool: Type.String(),
  ...figures,
  rows_to_come: Type.Integer({ description: 'Rows of backfills that are still to be queued, behind those that are' }),
  workers: Type.Object({
    ready: Type.Integer({ description: 'They claim' }),
    starting: Type.Integer({ description: 'They load models' }),
    draining: Type.Integer({ description: 'They end what they hold' }),
    threads: Type.Integer({ description: 'Inference threads of those that are ready' }),
  }, { description: 'Heard of within the last 5 seconds' }),
  desired_workers: orNull('integer', 'What the autoscaler last decided; null where none decides'),
  reason: orNull('string', 'Why so many'),
  lanes: byLane(Type.Object(figures)),
  models: Type.Array(Type.Object({
    model: Type.String(),
    version: Type.Integer(),
    seconds_per_row: orNull('number', 'Of an inference thread, in micro-batches at least half full where it had such; null where it never ran'),
    ...byLane(Type.Object(rows)).properties,
  }), { description: 'Each model version that ever had rows here' }),
});
export type PoolDemand = Static<typeof PoolDemand>;
