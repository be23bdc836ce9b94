// What the API measures of pools and their Redis (docs/04-metrics.md), as Redis said last, so that a scrape waits for nothing.
// Without Redis there is nothing to say, but the rest is served.
import { Counter, Gauge, type Registry } from '@millrace/process';
import { type Lane, lanes, parseVersionName } from '@millrace/protocol';
import { type Admission, type PoolLoad, replicaStates } from '@millrace/queue';

/** Registers them. */
export function observePools(registry: Registry, admission: Admission): void {
  const registers = [registry];
  const gauge = <Label extends string>(name: string, help: string, ...labelNames: Label[]) => new Gauge({ name, help, labelNames, registers });
  // The first gauge fills its neighbours too.
  const depth = new Gauge({
    name: 'millrace_queue_depth', help: 'Rows accepted and not settled', labelNames: ['queue'], registers,
    collect() {
      for (const metric of [this, oldest, rows, backlog, arrived, cost, drain, workers, desired, results, oldestResult, memory]) metric.reset();
      for (const [pool, load] of admission.pools) setPool(pool, load);
      for (const [pool, { length, oldestSeconds }] of admission.results) {
        results.set({ pool }, length);
        oldestResult.set({ pool }, oldestSeconds);
      }
      if (!admission.memory) return;
      const { usedBytes, maxBytes, refusedFromBytes } = admission.memory;
      memory.set({ kind: 'used' }, usedBytes);
      if (maxBytes > 0) memory.set({ kind: 'refused_from' }, refusedFromBytes);
    },
  });
  const oldest = gauge('millrace_queue_oldest_age_seconds', 'Age of the oldest waiting bundle', 'queue');
  const rows = gauge('millrace_queue_rows', 'Rows accepted and not settled, and those that backfills have still to queue, by model version', 'pool', 'lane', 'model', 'version', 'state');
  const arrived = new Counter({ name: 'millrace_queue_arrived_rows_total', help: 'Rows ever accepted', labelNames: ['pool', 'lane', 'model', 'version'], registers });
  const backlog = gauge('millrace_queue_backlog_seconds', 'Work-seconds waiting, running and to come', 'pool', 'lane');
  const cost = gauge('millrace_queue_seconds_per_row', 'Seconds of an inference thread that a row takes', 'pool', 'model', 'version');
  const drain = gauge('millrace_queue_drain_rows_per_second', 'Rows settled a second while rows wait', 'pool');
  const workers = gauge('millrace_workers', 'Workers heard of within the last 5 seconds', 'pool', 'state');
  const desired = gauge('millrace_workers_desired', 'Workers that the autoscaler wants', 'pool');
  const results = gauge('millrace_results_queue_length', 'Bundles whose events wait for a dispatcher', 'pool');
  const oldestResult = gauge('millrace_results_queue_oldest_age_seconds', 'Age of the oldest entry of the results queue', 'pool');
  const memory = gauge('millrace_redis_memory_bytes', 'Memory that Redis uses, and from where on nothing more is queued', 'kind');
  const limit = gauge('millrace_queue_limit_rows', 'Most rows that may be accepted and not settled', 'of');
  limit.set({ of: 'pool' }, admission.limits.maxQueuedRows);
  limit.set({ of: 'tenant' }, admission.limits.maxQueuedRowsPerTenant);

  function setPool(pool: string, load: PoolLoad): void {
    const { demand: { replicas, toCome, decision }, rates, drain: { rowsPerSecond } } = load;
    for (const lane of lanes) setLane(pool, lane, load);
    for (const [name, count] of toCome.models) rows.set({ pool, lane: 'bulk', ...labelsOf(name), state: 'to_come' }, count);
    for (const [name, seconds] of rates.secondsPerRow) cost.set({ pool, ...labelsOf(name) }, seconds);
    for (const state of replicaStates) workers.set({ pool, state }, replicas.filter((replica) => replica.state === state).length);
    if (decision) desired.set({ pool }, decision.desiredWorkers);
    if (rowsPerSecond !== undefined) drain.set({ pool }, rowsPerSecond);
  }

  function setLane(pool: string, lane: Lane, { demand: { lanes: of, models }, rates }: PoolLoad): void {
    const queue = `${pool}/${lane}`;
    depth.set({ queue }, of[lane].rows);
    oldest.set({ queue }, of[lane].oldestSeconds);
    backlog.set({ pool, lane }, rates.backlogSeconds[lane]);
    for (const [name, { arrivedRows }] of models) {
      const labels = { pool, lane, ...labelsOf(name) };
      const { waiting, running } = of[lane].models.get(name) ?? { waiting: 0, running: 0 };
      rows.set({ ...labels, state: 'waiting' }, waiting);
      rows.set({ ...labels, state: 'running' }, running);
      arrived.inc(labels, arrivedRows[lane]);
    }
  }
}

function labelsOf(versionName: string): { model: string; version: number } {
  const { name, version } = parseVersionName(versionName);
  return { model: name, version };
}
