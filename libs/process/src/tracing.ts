// Tracing (docs/09-observability.md). Where it is off there is no tracer: nobody makes spans, and the SDK is not loaded.
import Type, { type Static } from 'typebox';
import type { Logger } from './logger.ts';

/** Settings of tracing, by the names that OpenTelemetry gives them. What else an exporter needs (headers, certificates) it reads itself. */
export const tracingSettings = {
  otlpEndpoint: Type.Optional(Type.String({ env: 'OTEL_EXPORTER_OTLP_ENDPOINT', description: 'Base URL of the OTLP/HTTP receiver of traces; nothing is traced without one' })),
  otlpTracesEndpoint: Type.Optional(Type.String({ env: 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT', description: 'The whole URL, where it is not the base URL with v1/traces' })),
  otlpProtocol: Type.Enum(['http/protobuf'], { env: 'OTEL_EXPORTER_OTLP_PROTOCOL', default: 'http/protobuf', description: 'How traces are sent' }),
  tracesSampled: Type.Number({ env: 'OTEL_TRACES_SAMPLER_ARG', default: 1, minimum: 0, maximum: 1, description: 'Share of the traces that begin here which are recorded; the caller’s choice goes first' }),
  tracingDisabled: Type.Boolean({ env: 'OTEL_SDK_DISABLED', default: false, description: 'Traces nothing in spite of an endpoint' }),
};
const Settings = Type.Object(tracingSettings);
export type TracingSettings = Static<typeof Settings>;

export type Attributes = Readonly<Record<string, string | number>>;

export interface SpanStart {
  readonly kind?: 'server' | 'client' | 'producer' | 'consumer' | 'internal';
  /** Headers of the trace that it goes on with; without them it begins one. */
  readonly parent?: Readonly<Record<string, string | string[] | undefined>> | undefined;
  readonly links?: readonly Readonly<Record<string, string>>[];
  readonly attributes?: Attributes;
  /** Milliseconds since the epoch; now by default. */
  readonly startedAt?: number;
}

export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  /** W3C Trace Context for who goes on with it: `traceparent`, and `tracestate` where there is one. */
  readonly headers: Readonly<Record<string, string>>;
  end(end?: SpanEnd): void;
}

export interface SpanEnd {
  readonly attributes?: Attributes;
  /** A code where it failed. */
  readonly error?: string | undefined;
  /** Milliseconds since the epoch; now by default. */
  readonly endedAt?: number | undefined;
}

export interface Tracer {
  start(name: string, start: SpanStart): Span;
  /** Sends what has ended, as far as that can be done soon. */
  stop(): Promise<void>;
}

export interface TracingOptions {
  readonly service: string;
  readonly version: string;
  readonly settings: TracingSettings;
  readonly log: Logger;
}

/** The tracer; undefined where the settings name no receiver. */
export async function startTracing(options: TracingOptions): Promise<Tracer | undefined> {
  const { otlpEndpoint, otlpTracesEndpoint, tracingDisabled } = options.settings;
  if (tracingDisabled || (otlpEndpoint ?? otlpTracesEndpoint) === undefined) return undefined;
  const { OtlpTracer } = await import('./otlp-tracer.ts');
  return new OtlpTracer(options);
}

/** Whether the trace is recorded. https://www.w3.org/TR/trace-context/#sampled-flag */
export function isSampled({ traceparent = '' }: Readonly<Record<string, string>>): boolean {
  return (Number.parseInt(traceparent.slice(-2), 16) & 1) === 1;
}

/** The field of a log line about something that is traced. */
export function traceField(headers: Readonly<Record<string, string>> | undefined): { readonly traceId?: string } {
  const traceId = headers?.['traceparent']?.split('-')[1];
  return traceId === undefined ? {} : { traceId };
}
