import { execFileSync } from 'node:child_process';
import { createServer, type Server } from 'node:net';
import Type from 'typebox';
import { expect, onTestFinished, test } from 'vitest';
import { readConfig } from './config.ts';
import { createLogger } from './logger.ts';
import { isSampled, startTracing, traceField, tracingSettings } from './tracing.ts';

const log = createLogger('test', '0', 'silent');
const traced = { traceparent: '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01' };

function tracerOf(env: Record<string, string>) {
  return startTracing({ service: 'test', version: '0', settings: readConfig(Type.Object(tracingSettings), env), log });
}

test('without an endpoint there is no tracer, and the SDK is not loaded', () => {
  const script = `
    import { registerHooks } from 'node:module';
    const loaded = [];
    registerHooks({ resolve(name, context, next) { if (name.startsWith('@opentelemetry/sdk')) loaded.push(name); return next(name, context); } });
    const { startTracing } = await import(${JSON.stringify(new URL('./index.ts', import.meta.url).href)});
    console.log(await startTracing({ settings: {} }), loaded.length);
    await startTracing({ settings: { otlpEndpoint: 'http://127.0.0.1:1', tracesSampled: 1 } });
    console.log(loaded.length > 0);`;
  expect(execFileSync(process.execPath, ['--input-type=module', '--eval', script], { encoding: 'utf8' })).toBe('undefined 0\ntrue\n');
});

test('OTEL_SDK_DISABLED goes before an endpoint', async () => {
  expect(await tracerOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_SDK_DISABLED: 'true' })).toBeUndefined();
});

test('a protocol that is not spoken is refused at the start', () => {
  expect(() => tracerOf({ OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' })).toThrow(/OTEL_EXPORTER_OTLP_PROTOCOL: expected one of http\/protobuf/);
});

test('a receiver that takes connections and does not answer holds up no end', async () => {
  const server: Server = createServer(() => {});
  await new Promise<void>((resolve) => { server.listen(0, '127.0.0.1', resolve); });
  onTestFinished(() => { server.close(); });
  const address = server.address();
  const tracer = await tracerOf({ OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}` });
  tracer?.start('something', {}).end();
  const before = performance.now();
  await tracer?.stop();
  expect(performance.now() - before).toBeLessThan(9000);
});

test('a span goes on with the trace that it is given, and says where to go on', async () => {
  const tracer = await tracerOf({ OTEL_EXPORTER_OTLP_ENDPOINT: 'http://127.0.0.1:1', OTEL_TRACES_SAMPLER_ARG: '0' });
  const span = tracer?.start('child', { parent: { ...traced, tracestate: 'a=b' } });
  expect(span?.headers).toEqual({ traceparent: `00-4bf92f3577b34da6a3ce929d0e0e4736-${span?.spanId}-01`, tracestate: 'a=b' });
  // None that begins here is recorded.
  expect(isSampled(tracer?.start('root', {}).headers ?? {})).toBe(false);
});

test.each([['01', true], ['00', false], ['03', true], ['02', false]])('the flags %s are read', (flags, sampled) => {
  expect(isSampled({ traceparent: traced.traceparent.replace(/..$/, flags) })).toBe(sampled);
});

test('a log line names the trace where there is one', () => {
  expect([traceField(traced), traceField(undefined)]).toEqual([{ traceId: '4bf92f3577b34da6a3ce929d0e0e4736' }, {}]);
});
