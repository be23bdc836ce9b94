// Spans by OpenTelemetry, sent by OTLP/HTTP. Loaded only where something is traced. No context is kept aside: who makes a span says where it belongs.
import { setTimeout as delay } from 'node:timers/promises';
import {
  type Context, defaultTextMapGetter, defaultTextMapSetter, diag, DiagLogLevel, type Link, ROOT_CONTEXT, type Span as OtelSpan, type SpanContext, SpanKind,
  SpanStatusCode, trace, type Tracer as OtelTracer,
} from '@opentelemetry/api';
import { setGlobalErrorHandler, W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-proto';
import { detectResources, type Resource, resourceAttributesEnvDetector, resourceFromAttributes, serviceInstanceIdDetector, serviceNameEnvDetector } from '@opentelemetry/resources';
import { BatchSpanProcessor, ParentBasedSampler, TraceIdRatioBasedSampler, TracerProvider } from '@opentelemetry/sdk-trace';
import type { Logger } from './logger.ts';
import type { Span, SpanEnd, SpanStart, Tracer, TracingOptions } from './tracing.ts';

/** A receiver that does not answer must not hold up the end of the process. */
const flushMs = 2000;

const kinds = { server: SpanKind.SERVER, client: SpanKind.CLIENT, producer: SpanKind.PRODUCER, consumer: SpanKind.CONSUMER, internal: SpanKind.INTERNAL } as const;
const propagator = new W3CTraceContextPropagator();

export class OtlpTracer implements Tracer {
  readonly #provider: TracerProvider;
  readonly #tracer: OtelTracer;

  constructor({ service, version, settings, log }: TracingOptions) {
    reportTo(log);
    this.#provider = new TracerProvider({
      resource: resourceOf(service, version),
      sampler: new ParentBasedSampler({ root: new TraceIdRatioBasedSampler(settings.tracesSampled) }),
      spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter() })],
    });
    this.#tracer = this.#provider.getTracer('millrace', version);
  }

  start(name: string, { kind = 'internal', parent, links = [], attributes = {}, startedAt }: SpanStart): Span {
    const context = parent ? contextOf(parent) : ROOT_CONTEXT;
    return new OtlpSpan(this.#tracer.startSpan(name, {
      kind: kinds[kind], attributes, links: links.flatMap(linkTo), ...(startedAt !== undefined && { startTime: startedAt }),
    }, context));
  }

  async stop(): Promise<void> {
    await Promise.race([this.#provider.shutdown(), delay(flushMs)]);
  }
}

class OtlpSpan implements Span {
  readonly #span: OtelSpan;

  constructor(span: OtelSpan) {
    this.#span = span;
  }

  get traceId(): string {
    return this.#span.spanContext().traceId;
  }

  get spanId(): string {
    return this.#span.spanContext().spanId;
  }

  get headers(): Record<string, string> {
    const headers: Record<string, string> = {};
    propagator.inject(trace.setSpan(ROOT_CONTEXT, this.#span), headers, defaultTextMapSetter);
    return headers;
  }

  end({ attributes = {}, error, endedAt }: SpanEnd = {}): void {
    this.#span.setAttributes(attributes);
    if (error !== undefined) this.#span.setAttribute('error.type', error).setStatus({ code: SpanStatusCode.ERROR });
    this.#span.end(endedAt);
  }
}

function contextOf(headers: NonNullable<SpanStart['parent']>): Context {
  return propagator.extract(ROOT_CONTEXT, headers, defaultTextMapGetter);
}

function linkTo(headers: Readonly<Record<string, string>>): Link[] {
  const context: SpanContext | undefined = trace.getSpanContext(contextOf(headers));
  return context ? [{ context }] : [];
}

/** `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` go before our own. */
function resourceOf(service: string, version: string): Resource {
  const own = resourceFromAttributes({ 'service.name': `millrace-${service}`, 'service.namespace': 'millrace', 'service.version': version });
  return own.merge(detectResources({ detectors: [serviceInstanceIdDetector, resourceAttributesEnvDetector, serviceNameEnvDetector] }));
}

/** The SDK has one place for all of the process where it tells what went wrong. */
function reportTo(log: Logger): void {
  const warn = (reason: string) => log.warn({ reason }, 'traces are incomplete');
  diag.setLogger({ error: warn, warn, info: () => {}, debug: () => {}, verbose: () => {} }, DiagLogLevel.WARN);
  setGlobalErrorHandler((error) => log.warn({ err: error }, 'traces cannot be sent'));
}
