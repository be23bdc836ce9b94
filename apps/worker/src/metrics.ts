// The worker's metrics (docs/04-metrics.md).
import { buckets, Counter, Gauge, Histogram, type Registry } from '@millrace/process';
import { type ErrorCode, type ModelVersionId, type Outcome, outcomes, type ResultRecord, versionName } from '@millrace/protocol';

/** What the gauges read at each scrape. */
export interface WorkerGauges {
  readonly claimedRows: () => number;
  readonly busyThreads: () => number;
  readonly threads: number;
  readonly sessionBytes: () => number;
}

export interface ModelMetrics {
  settled(record: ResultRecord): void;
  ran(rows: number, inferenceSeconds: number, assemblySeconds: number): void;
  published(seconds: number): void;
}

export class WorkerMetrics {
  readonly #predictions;
  readonly #duration;
  readonly #queueWait;
  readonly #assembly;
  readonly #inference;
  readonly #publish;
  readonly #batchSize;
  readonly #rows;
  readonly #load;
  readonly #retries;
  readonly #orphaned;
  readonly #chunks;
  readonly #chunkSeconds;
  // Looking children up by their labels costs more than observing them.
  readonly #byModel = new Map<string, ModelMetrics>();

  constructor(registry: Registry, pool: string, gauges: WorkerGauges) {
    const registers = [registry];
    const seconds = (name: string, help: string, bounds: readonly number[]) => new Histogram({ name, help, labelNames: ['model'], buckets: [...bounds], registers });
    this.#predictions = new Counter({ name: 'millrace_predictions_total', help: 'Predictions settled by this process', labelNames: ['model', 'version', 'outcome'], registers });
    this.#rows = new Counter({ name: 'millrace_rows_total', help: 'Rows run through models', labelNames: ['model'], registers });
    this.#duration = seconds('millrace_prediction_duration_seconds', 'From acceptance to the result', buckets.endToEnd);
    this.#queueWait = seconds('millrace_queue_wait_seconds', 'From acceptance to the claim by a worker', buckets.endToEnd);
    this.#assembly = seconds('millrace_batch_assembly_seconds', 'From the claim to the start of the micro-batch, its oldest prediction', buckets.duration);
    this.#inference = seconds('millrace_inference_duration_seconds', 'Model run of one micro-batch', buckets.duration);
    this.#publish = seconds('millrace_result_publish_seconds', 'Writing results of one bundle', buckets.duration);
    this.#batchSize = seconds('millrace_batch_size', 'Rows of one micro-batch', buckets.rows);
    this.#load = new Histogram({ name: 'millrace_model_load_seconds', help: 'Loading and warming up one session', labelNames: ['model'], buckets: [...buckets.duration], registers });
    this.#retries = new Counter({ name: 'millrace_retries_total', help: 'Predictions that failed and were queued again', labelNames: ['model', 'reason'], registers });
    this.#orphaned = new Counter({ name: 'millrace_orphaned_total', help: 'Bundles claimed here that another replica had lost', registers });
    this.#chunks = new Counter({ name: 'millrace_chunks_total', help: 'Chunks of backfills settled by this process', labelNames: ['model', 'outcome'], registers });
    this.#chunkSeconds = new Histogram({ name: 'millrace_chunk_duration_seconds', help: 'Reading, running and writing one chunk', labelNames: ['model', 'step'], buckets: [...buckets.endToEnd], registers });
    const gauge = (name: string, help: string, read: () => number) => new Gauge({ name, help, labelNames: ['pool'], registers, collect() { this.set({ pool }, read()); } });
    gauge('millrace_worker_claimed_rows', 'Rows that are claimed here and not settled', gauges.claimedRows);
    gauge('millrace_worker_busy_ratio', 'Inference threads that are running', () => gauges.busyThreads() / gauges.threads);
    gauge('millrace_model_memory_bytes', 'Loaded models, bytes of their files', gauges.sessionBytes);
  }

  loaded(model: string, seconds: number): void {
    this.#load.observe({ model }, seconds);
  }

  retried(model: string, reason: ErrorCode): void {
    this.#retries.inc({ model, reason });
  }

  orphaned(): void {
    this.#orphaned.inc();
  }

  chunkSettled(model: string, outcome: 'succeeded' | 'failed'): void {
    this.#chunks.inc({ model, outcome });
  }

  /** Milliseconds of each step. */
  chunkRan(model: string, steps: Readonly<Record<'read' | 'run' | 'write', number>>): void {
    for (const [step, ms] of Object.entries(steps)) this.#chunkSeconds.observe({ model, step }, ms / 1000);
  }

  of(model: ModelVersionId): ModelMetrics {
    const key = versionName(model);
    let metrics = this.#byModel.get(key);
    if (!metrics) this.#byModel.set(key, metrics = this.#bind(model.name, String(model.version)));
    return metrics;
  }

  #bind(model: string, version: string): ModelMetrics {
    const byOutcome = Object.fromEntries(outcomes.map((outcome) => [outcome, this.#predictions.labels(model, version, outcome)])) as Record<Outcome, Counter.Internal>;
    const [duration, queueWait, assembly, inference, publish, batchSize] = [this.#duration, this.#queueWait, this.#assembly, this.#inference, this.#publish, this.#batchSize].map((histogram) => histogram.labels(model)) as [Histogram.Internal<'model'>, Histogram.Internal<'model'>, Histogram.Internal<'model'>, Histogram.Internal<'model'>, Histogram.Internal<'model'>, Histogram.Internal<'model'>];
    const ran = this.#rows.labels(model);
    return {
      settled: ({ outcome, acceptedAt, settledAt, timing }) => {
        byOutcome[outcome].inc();
        duration.observe((settledAt - acceptedAt) / 1000);
        if (timing) queueWait.observe(timing.queueMs / 1000);
      },
      ran: (rows, inferenceSeconds, assemblySeconds) => {
        ran.inc(rows);
        batchSize.observe(rows);
        inference.observe(inferenceSeconds);
        assembly.observe(assemblySeconds);
      },
      published: (seconds) => publish.observe(seconds),
    };
  }
}
