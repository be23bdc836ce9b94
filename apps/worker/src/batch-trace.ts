// The spans of one micro-batch. It stands in the trace of one of its predictions and has links to all of them.
import type { ItemOutcome } from '@millrace/inference';
import type { ModelVersion } from '@millrace/models';
import { isSampled, type Span, type Tracer } from '@millrace/process';
import type { Piece } from './piece.ts';

export class BatchTrace {
  readonly #tracer: Tracer;
  readonly #batch: Span;
  /** Times are given to all spans: where only some are, OpenTelemetry rounds others, and steps end after their batch. */
  readonly #clockStart: number;
  /** What it is at. */
  #step: Span;

  /** It begins to run; undefined where nothing of it is recorded. */
  static begin(tracer: Tracer, version: ModelVersion, pieces: readonly Piece[], startedAt: number): BatchTrace | undefined {
    return pieces.some(({ trace }) => trace && isSampled(trace)) ? new BatchTrace(tracer, version, pieces, startedAt) : undefined;
  }

  private constructor(tracer: Tracer, { id, manifest }: ModelVersion, pieces: readonly Piece[], startedAt: number) {
    // A prediction of several pieces is one link.
    const links = [...new Set(pieces.map(({ trace }) => trace).filter((trace) => trace !== undefined))];
    const [{ lane }] = pieces as readonly [Piece];
    const queue = `${manifest.pool}/${lane}`;
    const arrivedAt = Math.min(...pieces.map((piece) => piece.arrivedAt));
    this.#tracer = tracer;
    this.#clockStart = startedAt - performance.now();
    this.#batch = tracer.start(`process ${queue}`, {
      kind: 'consumer', parent: links.find(isSampled), links, startedAt: arrivedAt,
      attributes: {
        'messaging.system': 'bullmq', 'messaging.destination.name': queue, 'messaging.operation.name': 'process', 'messaging.operation.type': 'process',
        'messaging.batch.message_count': links.length,
        'millrace.model.name': id.name, 'millrace.model.version': id.version, 'millrace.batch.size': pieces.reduce((rows, piece) => rows + piece.rows, 0),
      },
    });
    this.#step = this.#begin('batch.assemble', arrivedAt);
    this.#next('onnx.run', startedAt);
  }

  ran(): void {
    this.#next('result.publish', this.#now());
  }

  ended(outcomes: readonly ItemOutcome[]): void {
    const endedAt = this.#now();
    this.#step.end({ endedAt });
    this.#batch.end({ endedAt, error: outcomes.find((outcome) => !outcome.ok)?.error.code });
  }

  #now(): number {
    return this.#clockStart + performance.now();
  }

  #next(name: string, at: number): void {
    this.#step.end({ endedAt: at });
    this.#step = this.#begin(name, at);
  }

  #begin(name: string, startedAt: number): Span {
    return this.#tracer.start(name, { parent: this.#batch.headers, startedAt });
  }
}
