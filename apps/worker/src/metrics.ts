// The worker's metrics (docs/04-metrics.md).
import type { SessionLoaded, SessionReleased } from '@millrace/inference';
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
  settled(record: ResultRecord, deadlineAt: number | undefined): void;
  ran(batch: { readonly rows: number; readonly maxRows: number; readonly inferenceSeconds: number; readonly assemblySeconds: number }): void;
  published(seconds: number): void;
}

type Child = Histogram.Internal<'model'>;

export class WorkerMetrics {
  readonly #predictions;
  readonly #duration;
  readonly #queueWait;
  readonly #assembly;
  readonly #inference;
  readonly #publish;
  readonly #deadlines;
  readonly #batchSize;
  readonly #batchFill;
  readonly #rows;
  readonly #load;
  readonly #retries;
  readonly #orphaned;
  readonly #chunks;
  readonly #chunkSeconds;
  /** What each loaded session runs on. */
  readonly #sessions = new Map<string, { readonly model: string; readonly version: string; readonly provider: string }>();
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
    this.#batchFill = seconds('millrace_batch_fill_ratio', 'Rows of one micro-batch, of those that it may have', buckets.ratio);
    this.#deadlines = new Counter({ name: 'millrace_deadlines_total', help: 'Predictions with a deadline that were settled, in time or not', labelNames: ['model', 'outcome'], registers });
    this.#load = new Histogram({ name: 'millrace_model_load_seconds', help: 'Loading and warming up one session', labelNames: ['model'], buckets: [...buckets.duration], registers });
    this.#retries = new Counter({ name: 'millrace_retries_total', help: 'Predictions that failed and were queued again', labelNames: ['model', 'reason'], registers });
    this.#orphaned = new Counter({ name: 'millrace_orphaned_total', help: 'Bundles claimed here that another replica had lost', registers });
    this.#chunks = new Counter({ name: 'millrace_chunks_total', help: 'Chunks of backfills settled by this process', labelNames: ['model', 'outcome'], registers });
    this.#chunkSeconds = new Histogram({ name: 'millrace_chunk_duration_seconds', help: 'Reading, running and writing one chunk', labelNames: ['model', 'step'], buckets: [...buckets.endToEnd], registers });
    const sessions = this.#sessions;
    new Gauge({
      name: 'millrace_session_provider', help: 'Loaded sessions, by what runs them', labelNames: ['model', 'version', 'provider'], registers,
      collect() {
        this.reset();
        for (const labels of sessions.values()) this.inc(labels);
      },
    });
    const gauge = (name: string, help: string, read: () => number) => new Gauge({ name, help, labelNames: ['pool'], registers, collect() { this.set({ pool }, read()); } });
    gauge('millrace_worker_claimed_rows', 'Rows that are claimed here and not settled', gauges.claimedRows);
    gauge('millrace_worker_busy_ratio', 'Inference threads that are running', () => gauges.busyThreads() / gauges.threads);
    gauge('millrace_model_memory_bytes', 'Loaded models, bytes of their files', gauges.sessionBytes);
  }

  loaded({ version, thread, loadMs, providers: [provider = ''] }: SessionLoaded): void {
    const { name: model, version: number } = version.id;
    this.#load.observe({ model }, loadMs / 1000);
    this.#sessions.set(sessionKey({ version, thread }), { model, version: String(number), provider });
  }

  released(session: SessionReleased): void {
    this.#sessions.delete(sessionKey(session));
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
    const [duration, queueWait, assembly, inference, publish, batchSize, batchFill] = [this.#duration, this.#queueWait, this.#assembly, this.#inference, this.#publish, this.#batchSize, this.#batchFill].map((histogram) => histogram.labels(model)) as [Child, Child, Child, Child, Child, Child, Child];
    const [met, missed] = [this.#deadlines.labels(model, 'met'), this.#deadlines.labels(model, 'missed')];
    // From the first on, so that a first miss is seen as one.
    for (const child of [met, missed]) child.inc(0);
    const ran = this.#rows.labels(model);
    return {
      settled: ({ outcome, acceptedAt, settledAt, timing }, deadlineAt) => {
        byOutcome[outcome].inc();
        duration.observe((settledAt - acceptedAt) / 1000);
        if (timing) queueWait.observe(timing.queueMs / 1000);
        if (deadlineAt !== undefined) (settledAt <= deadlineAt ? met : missed).inc();
      },
      ran: ({ rows, maxRows, inferenceSeconds, assemblySeconds }) => {
        ran.inc(rows);
        batchSize.observe(rows);
        batchFill.observe(rows / maxRows);
        inference.observe(inferenceSeconds);
        assembly.observe(assemblySeconds);
      },
      published: (seconds) => publish.observe(seconds),
    };
  }
}

/** By digest, too: a version whose file was replaced is loaded before the old one is released. */
function sessionKey({ version: { id }, thread }: SessionReleased): string {
  return `${id.name}@${id.version}#${id.digest} ${thread}`;
}
