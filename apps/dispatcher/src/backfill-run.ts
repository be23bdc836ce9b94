// One backfill in the hands of its coordinator: checked, staged, fed to the workers, assembled. What is done stands in the work
// place, so whoever holds it next goes on from there.
import {
  addPart, assemble, checkBackfill, defaultLimits, discardBlock, forgetPart, hasTooManyErrors, namesBeside, nothingDone, type Part, type Places, type Plan, readParts, readPlan, readTotals, stage,
  type StageProgress, type Storage, type Tally, Target, type WorkPlace, writePlan,
} from '@millrace/backfill';
import type { Logger } from '@millrace/process';
import { type BackfillProgress, type BackfillRecord, type BackfillWish, isActive, MillraceError, moved, problemOf, wishStates } from '@millrace/protocol';
import { type Chunks, type HeldBackfill, LeaseLost } from '@millrace/queue';
import { setTimeout as delay } from 'node:timers/promises';
import type { BackfillNews } from './backfill-host.ts';
import { ChunkFeed } from './chunk-feed.ts';
import { RowRate } from './row-rate.ts';
import { rowsOfChunk } from './rows-of-chunk.ts';

export interface BackfillRunOptions {
  readonly storage: Storage;
  readonly places: Places;
  readonly chunksOf: (pool: string) => Chunks;
  readonly tell: (news: BackfillNews) => void;
  readonly log: Logger;
  readonly version: string;
}

const noteMs = 1000;
const drainMs = 200;
const chunksAhead = 16;
/** While it is not known what a row takes: so many small chunks are fed, and then looked again and again. */
const chunksToLearn = 4;
const learnMs = 50;

export class BackfillRun {
  readonly #options: BackfillRunOptions;
  readonly #held: HeldBackfill;
  readonly #record: BackfillRecord;
  readonly #work: WorkPlace;
  readonly #chunks: Chunks;
  readonly #target: Target;
  #progress: BackfillProgress;
  #tally: Tally = nothingDone;
  /** Of an inference thread; undefined where the model never ran. */
  #secondsPerRow: number | undefined;
  /** Of the whole input, counted or estimated. */
  #expectedRows: number | undefined;

  constructor(held: HeldBackfill, record: BackfillRecord, options: BackfillRunOptions) {
    this.#held = held;
    this.#record = record;
    this.#options = options;
    this.#progress = record.progress;
    this.#work = options.storage.workOf(record.id);
    this.#chunks = options.chunksOf(record.spec.model.pool);
    this.#target = new Target(options.storage);
  }

  get state(): BackfillProgress['state'] {
    return this.#progress.state;
  }

  /** Resolves when nobody has to see to it any more. Rejects with the signal's reason where it is to be left to another. */
  async run(signal: AbortSignal): Promise<void> {
    do {
      if (isActive(this.#progress.state)) await this.#goOn(signal);
      const wish = await this.#held.wish();
      if (wish) await this.#grant(wish, signal);
    } while (isActive(this.#progress.state));
    // Somebody may have asked for something that it had already come to.
    await this.#write(this.#progress);
  }

  /** Works until it has ended, or until something else is asked. */
  async #goOn(signal: AbortSignal): Promise<void> {
    const asked = new AbortController();
    const watching = this.#watch(asked, signal);
    try {
      while (isActive(this.#progress.state)) await this.#step(AbortSignal.any([signal, asked.signal]));
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof LeaseLost) throw error;
      if (!asked.signal.aborted) await this.#fail(error, signal);
    } finally {
      asked.abort();
      await watching;
    }
  }

  async #step(signal: AbortSignal): Promise<void> {
    switch (this.#progress.state) {
      case 'validating': return this.#validate();
      case 'staging':
      case 'running': return this.#feed(signal);
      case 'finalizing': return this.#finalize(signal);
      default:
    }
  }

  async #validate(): Promise<void> {
    const { storage, places } = this.#options;
    const { spec: { model, data, chunkRows } } = this.#record;
    this.#progress = { ...this.#progress, startedAt: this.#progress.startedAt ?? Date.now() };
    if (!await readPlan(this.#work)) {
      const limits = { ...defaultLimits, ...(chunkRows !== undefined && { rows: chunkRows }) };
      const plan = await checkBackfill(data, { ...storage, signature: model.signature, labels: model.labels.length > 0, places, target: this.#target, limits });
      await writePlan(this.#work, plan);
    }
    await this.#write(moved(this.#progress, 'staging'));
  }

  /** Stages what is not staged, and feeds what is. */
  async #feed(signal: AbortSignal): Promise<void> {
    const { id, tenant, spec: { model, priority, maxAttempts } } = this.#record;
    const { round } = this.#progress;
    const plan = await this.#plan();
    const parts = await readParts(this.#work);
    this.#tally = [...parts.values()].reduce(addPart, nothingDone);
    const feed = new ChunkFeed({
      chunks: this.#chunks, backfillId: id, round, job: { tenant, model: { name: model.name, version: model.version, digest: model.digest }, priority }, maxAttempts,
      attempts: await this.#chunks.attempts(id, round),
      onDone: (chunk, { done, failed }) => {
        const { rows } = chunk;
        this.#tally = addPart(this.#tally, { rows, written: done });
        this.#options.tell({ kind: 'rows', done, failed });
        // Rows that failed may be run again.
        if (failed === 0) discardBlock(chunk, this.#work).catch((error: unknown) => this.#options.log.warn({ err: error, backfillId: id }, 'block cannot be removed'));
        this.#refuseErrors(plan);
      },
      onRetry: (_chunk, code) => this.#options.tell({ kind: 'chunk retried', reason: code }),
    });
    // Parquet says it before anything is staged.
    const total = plan.source.rowGroups?.flat().reduce((sum, rows) => sum + rows, 0) ?? this.#progress.rows.total;
    if (total !== undefined) this.#progress = { ...this.#progress, rows: { ...this.#progress.rows, total } };
    this.#expectedRows = total;
    await this.#learn();
    await this.#noting(feed, together(signal, (either) => this.#stage(plan, parts, feed, either), (either) => feed.run(either)));
    await this.#drain(signal);
    await this.#write(moved(this.#progress, 'finalizing', { rows: this.#rows() }));
  }

  async #stage(plan: Plan, parts: ReadonlyMap<number, Part>, feed: ChunkFeed, signal: AbortSignal): Promise<void> {
    const { objects } = this.#options.storage;
    const { chunkRows } = this.#record.spec;
    const onProgress = ({ rows, bytes, totalBytes }: StageProgress) => {
      this.#progress = { ...this.#progress, bytesRead: bytes };
      if (this.#progress.rows.total === undefined && bytes > 0) this.#expectedRows = rows * totalBytes / bytes;
    };
    const sized = chunkRows === undefined && { rowsAfter: (rows: number) => rowsOfChunk(rows, this.#secondsPerRow) };
    let begunAt = performance.now();
    for await (const chunk of stage(plan, { work: this.#work, objects, signal, onProgress, ...sized })) {
      if (!parts.has(chunk.index)) feed.add(chunk);
      // There is enough to do: the rest is staged at a quarter of the speed, for online predictions feel it otherwise.
      if (feed.waiting > chunksAhead) await delay(3 * (performance.now() - begunAt), undefined, { signal });
      if (sized) await this.#learned(feed, signal);
      begunAt = performance.now();
    }
    feed.complete();
    const totals = await readTotals(this.#work);
    const bytesRead = plan.source.files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    const rows = { ...this.#rows(), ...(totals && { total: totals.rows }) };
    this.#expectedRows = totals?.rows;
    if (this.#progress.state === 'staging') await this.#write(moved(this.#progress, 'running', { rows, bytesRead }));
    else this.#progress = { ...this.#progress, rows, bytesRead };
    this.#refuseErrors(plan);
  }

  async #finalize(signal: AbortSignal): Promise<void> {
    const { storage: { engine }, version } = this.#options;
    const { id, spec: { model, data } } = this.#record;
    const { startedAt = Date.now() } = this.#progress;
    const manifest = await assemble(await this.#plan(), {
      work: this.#work, engine, target: this.#target, signal,
      facts: {
        id, model: { name: model.name, version: model.version, digest: model.digest }, versions: { millrace: version, node: process.versions.node },
        startedAt: new Date(startedAt).toISOString(), finishedAt: new Date().toISOString(),
      },
    });
    const { rows: { input, output, failed }, errors } = manifest;
    const files = { manifest: namesBeside(data.output.uri).manifest, ...(errors && { errors: errors.uri }) };
    const completedAt = Date.now();
    await this.#write(moved(this.#progress, 'completed', { completedAt, rows: { total: input, done: output, failed }, files }));
    this.#options.log.info({ backfillId: id, rows: input, failed, seconds: Math.round((completedAt - startedAt) / 1000) }, 'backfill completed');
    // What failed can be run again.
    if (failed === 0) await this.#work.clear();
  }

  async #grant(wish: BackfillWish, signal: AbortSignal): Promise<void> {
    if (!wishStates[wish].includes(this.#progress.state)) return this.#write(this.#progress, wish);
    const { id } = this.#record;
    switch (wish) {
      case 'pause':
        await this.#drain(signal);
        await this.#write(moved(this.#progress, 'paused', { rows: await this.#recounted() }), wish);
        break;
      case 'cancel':
        await this.#drain(signal);
        await this.#write(moved(this.#progress, 'canceled', { completedAt: Date.now(), rows: await this.#recounted() }), wish);
        await this.#work.clear();
        break;
      case 'resume': {
        const { completedAt: _completedAt, ...progress } = this.#progress;
        await this.#write(moved(progress, progress.phase), wish);
        break;
      }
      case 'retry':
        await this.#retry(wish);
        break;
      default: wish satisfies never;
    }
    this.#options.log.info({ backfillId: id, wish, state: this.#progress.state }, 'backfill does as it is asked');
  }

  /** Chunks with rows that failed lose their parts, and so are run again. */
  async #retry(wish: BackfillWish): Promise<void> {
    for (const part of (await readParts(this.#work)).values()) if (part.errors) await forgetPart(this.#work, part);
    const { completedAt: _completedAt, ...progress } = this.#progress;
    await this.#write(moved(progress, 'running', { round: progress.round + 1, rows: await this.#recounted() }), wish);
  }

  async #fail(error: unknown, signal: AbortSignal): Promise<void> {
    const { log } = this.#options;
    const { id } = this.#record;
    const expected = error instanceof MillraceError;
    const failure = expected ? error : new MillraceError('internal', 'The backfill could not go on');
    log[expected ? 'info' : 'error']({ err: error, backfillId: id, phase: this.#progress.phase }, 'backfill failed');
    await this.#drain(signal);
    await this.#write(moved(this.#progress, 'failed', { completedAt: Date.now(), rows: await this.#recounted(), error: problemOf(failure) }));
  }

  /** Takes back what is to come and what no worker has claimed, and waits for what one has. */
  async #drain(signal: AbortSignal): Promise<void> {
    const { id, spec: { model } } = this.#record;
    for (;;) {
      // Another coordinator's chunks are not to be touched.
      await this.#held.extend();
      await this.#chunks.tellToCome(id, model, 0);
      if (await this.#chunks.drain(id)) return;
      await delay(drainMs, undefined, { signal });
    }
  }

  #refuseErrors({ data: { max_error_ratio: ratio } }: Plan): void {
    const { total } = this.#progress.rows;
    if (total === undefined || !hasTooManyErrors(this.#tally, ratio, total)) return;
    throw new MillraceError('too-many-errors', `${this.#tally.failed} of ${total} rows have failed, and max_error_ratio is ${ratio}`);
  }

  /** Every second until the work has ended: writes how far it is, says what is to come, and looks what a row takes. */
  async #noting(feed: ChunkFeed, work: Promise<unknown>): Promise<void> {
    const { id, spec: { model } } = this.#record;
    const rate = new RowRate(performance.now(), this.#tally.rows);
    let ended = false;
    const note = async () => {
      const rowsPerSecond = rate.note(performance.now(), this.#tally.rows);
      const { rowsPerSecond: _before, ...progress } = this.#progress;
      await this.#write({ ...progress, rows: this.#rows(), ...(rowsPerSecond !== undefined && { rowsPerSecond }) });
      if (ended) return;
      // Until the staging has got somewhere, what a coordinator before this one has told still holds.
      if (this.#expectedRows !== undefined) {
        await this.#chunks.tellToCome(id, model, Math.max(0, Math.round(this.#expectedRows - this.#tally.rows - feed.queuedRows)));
      }
      await this.#learn();
    };
    const timer = setInterval(() => { note().catch(() => { /* the lease's holder hears of it */ }); }, noteMs);
    try {
      await work;
    } finally {
      ended = true;
      clearInterval(timer);
    }
  }

  /** Resolves when it is known what a row takes, or when too little is under way to tell. */
  async #learned(feed: ChunkFeed, signal: AbortSignal): Promise<void> {
    while (this.#secondsPerRow === undefined && feed.open >= chunksToLearn) {
      await delay(learnMs, undefined, { signal });
      await this.#learn();
    }
  }

  async #learn(): Promise<void> {
    this.#secondsPerRow = await this.#chunks.secondsPerRow(this.#record.spec.model);
  }

  /** Aborts `asked` when somebody wants it to stop. */
  async #watch(asked: AbortController, signal: AbortSignal): Promise<void> {
    const either = AbortSignal.any([signal, asked.signal]);
    while (!either.aborted) {
      await delay(noteMs / 2, undefined, { signal: either }).catch(() => { /* it has ended */ });
      if (either.aborted) return;
      const wish = await this.#held.wish();
      if (wish === 'pause' || wish === 'cancel') asked.abort();
    }
  }

  async #plan(): Promise<Plan> {
    const plan = await readPlan(this.#work);
    if (!plan) throw new MillraceError('storage-unavailable', 'What the backfill had done is gone from the work folder');
    return plan;
  }

  #rows(): BackfillProgress['rows'] {
    const { rows, failed } = this.#tally;
    const { total } = this.#progress.rows;
    return { ...(total !== undefined && { total }), done: rows - failed, failed };
  }

  /** Also what workers ended while nobody took it. Where the work folder cannot be read, what was written last: a backfill can end without it. */
  async #recounted(): Promise<BackfillProgress['rows']> {
    const parts = await readParts(this.#work).catch(() => undefined);
    if (!parts) return this.#progress.rows;
    this.#tally = [...parts.values()].reduce(addPart, nothingDone);
    return this.#rows();
  }

  async #write(progress: BackfillProgress, granted?: BackfillWish): Promise<void> {
    const before = this.#progress;
    // At once: another write may be under way, and the last one counts.
    this.#progress = progress;
    if (!await this.#held.write(progress, granted)) this.#progress = before;
  }
}

/** Resolves when all of the works have. Where one rejects, the others are aborted and waited for. */
async function together(signal: AbortSignal, ...works: ((signal: AbortSignal) => Promise<void>)[]): Promise<void> {
  const broken = new AbortController();
  const either = AbortSignal.any([signal, broken.signal]);
  await Promise.all(works.map((work) => work(either).catch((error: unknown) => broken.abort(error))));
  broken.signal.throwIfAborted();
}
