// A receiver of traces by OTLP/HTTP: https://opentelemetry.io/docs/specs/otlp/#otlphttp. Keeps every span that it is sent.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { buffer } from 'node:stream/consumers';
import protobuf from 'protobufjs';

/** The members of opentelemetry/proto/collector/trace/v1/trace_service.proto, and of what it names, that are looked at here. */
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Export { repeated ResourceSpans resource_spans = 1; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
  message Resource { repeated KeyValue attributes = 1; }
  message ScopeSpans { repeated Span spans = 2; }
  message Span {
    bytes trace_id = 1; bytes span_id = 2; bytes parent_span_id = 4; string name = 5; Kind kind = 6;
    fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9; repeated Link links = 13; Status status = 15;
    enum Kind { UNSPECIFIED = 0; INTERNAL = 1; SERVER = 2; CLIENT = 3; PRODUCER = 4; CONSUMER = 5; }
  }
  message Link { bytes trace_id = 1; bytes span_id = 2; }
  message Status { Code code = 3; enum Code { UNSET = 0; OK = 1; ERROR = 2; } }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
`);
const exported = root.lookupType('Export');

type Attributes = readonly { readonly key: string; readonly value: Readonly<Record<string, unknown>> }[];
interface Message {
  readonly resourceSpans: readonly {
    readonly resource: { readonly attributes: Attributes };
    readonly scopeSpans: readonly { readonly spans: readonly SpanMessage[] }[];
  }[];
}
interface SpanMessage {
  readonly traceId: string; readonly spanId: string; readonly parentSpanId: string; readonly name: string; readonly kind: string;
  readonly startTimeUnixNano: string; readonly endTimeUnixNano: string; readonly attributes: Attributes; readonly status: { readonly code: string } | null;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
}

export interface ReceivedSpan {
  readonly service: unknown;
  readonly name: string;
  readonly kind: string;
  /** Ids are hex; a span without a parent has an empty one. */
  readonly traceId: string;
  readonly spanId: string;
  readonly parentId: string;
  readonly links: readonly { readonly traceId: string; readonly spanId: string }[];
  readonly attributes: Readonly<Record<string, unknown>>;
  readonly failed: boolean;
  readonly startedAt: bigint;
  readonly endedAt: bigint;
}

export class TraceReceiver {
  readonly url: string;
  readonly spans: ReceivedSpan[] = [];
  readonly stop: () => Promise<void>;

  private constructor(url: string, stop: () => Promise<void>) {
    this.url = url;
    this.stop = stop;
  }

  static async start(): Promise<TraceReceiver> {
    const server = createServer((request, response) => {
      void buffer(request).then((body) => {
        const known = request.url === '/v1/traces' && request.headers['content-type'] === 'application/x-protobuf';
        if (known) receiver.spans.push(...spansIn(body));
        response.writeHead(known ? 200 : 400, { 'content-type': 'application/x-protobuf' }).end();
      });
    });
    await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
    const receiver: TraceReceiver = new TraceReceiver(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, async () => {
      server.closeAllConnections();
      await new Promise((resolve) => { server.close(resolve); });
    });
    return receiver;
  }

  /** The one of its name in a trace. */
  find(traceId: string, name: string): ReceivedSpan | undefined {
    return this.spans.find((span) => span.traceId === traceId && span.name === name);
  }
}

function spansIn(body: Buffer): ReceivedSpan[] {
  const message = exported.toObject(exported.decode(body), { bytes: String, longs: String, enums: String, defaults: true }) as Message;
  return message.resourceSpans.flatMap(({ resource, scopeSpans }) => {
    const service = valuesOf(resource.attributes)['service.name'];
    return scopeSpans.flatMap(({ spans }) => spans.map((span): ReceivedSpan => ({
      service, name: span.name, kind: span.kind, traceId: hex(span.traceId), spanId: hex(span.spanId), parentId: hex(span.parentSpanId),
      links: span.links.map(({ traceId, spanId }) => ({ traceId: hex(traceId), spanId: hex(spanId) })),
      attributes: valuesOf(span.attributes), failed: span.status?.code === 'ERROR', startedAt: BigInt(span.startTimeUnixNano), endedAt: BigInt(span.endTimeUnixNano),
    })));
  });
}

function hex(base64: string): string {
  return Buffer.from(base64, 'base64').toString('hex');
}

function valuesOf(attributes: Attributes): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, Object.values(value)[0]]));
}
