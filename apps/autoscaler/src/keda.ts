// KEDA's external scaler: KEDA asks how many workers a pool should have, and is told at once when one without workers needs some.
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { loadPackageDefinition, type sendUnaryData, Server, ServerCredentials, type ServerUnaryCall, type ServerWritableStream, type ServiceDefinition, status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import type { Decisions } from './decisions.ts';

interface ScaledObjectRef {
  readonly scalerMetadata: Readonly<Record<string, string>>;
}

interface MetricsRequest {
  readonly scaledObjectRef: ScaledObjectRef | null;
}

interface Active {
  readonly result: boolean;
}

/** For clients to take the end of their streams; what hangs then is cut off. */
const closeMs = 1000;

/** So many workers for each worker that is wanted: the number that KEDA's HPA comes to is the decision. */
const metric = { metricName: 'workers_desired', targetSize: 1, targetSizeFloat: 1 };

/** What it cannot answer, in gRPC's codes: https://grpc.io/docs/guides/status-codes/ */
class Refusal extends Error {
  readonly code: status;

  constructor(code: status, message: string) {
    super(message);
    this.code = code;
  }
}

/** Serves the scaler. Port 0 picks a free one. */
export async function serveKeda({ host, port, decisions }: { readonly host: string; readonly port: number; readonly decisions: Decisions }): Promise<{ port: number; stop: () => Promise<void> }> {
  const server = new Server();
  const streams = new Set<ServerWritableStream<ScaledObjectRef, Active>>();
  server.addService(scalerService(), {
    IsActive: unary((ref: ScaledObjectRef) => ({ result: desiredOf(decisions, ref) > 0 })),
    GetMetricSpec: unary((ref: ScaledObjectRef) => {
      poolOf(decisions, ref);
      return { metricSpecs: [metric] };
    }),
    GetMetrics: unary(({ scaledObjectRef }: MetricsRequest) => {
      const desired = desiredOf(decisions, scaledObjectRef);
      return { metricValues: [{ metricName: metric.metricName, metricValue: desired, metricValueFloat: desired }] };
    }),
    StreamIsActive: (call: ServerWritableStream<ScaledObjectRef, Active>) => {
      streams.add(call);
      call.on('close', () => streams.delete(call));
      stream(decisions, call);
    },
  });
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:${port}`, ServerCredentials.createInsecure(), (error, taken) => (error ? reject(error) : resolve(taken)));
  });
  const stop = async () => {
    // A stream that has ended well KEDA opens again in 2 seconds; after an error it waits for up to a minute.
    for (const call of streams) call.end();
    const closed = new Promise<void>((resolve) => { server.tryShutdown(() => resolve()); });
    await Promise.race([closed, delay(closeMs, undefined, { ref: false })]);
    server.forceShutdown();
  };
  return { port: bound, stop };
}

function scalerService(): ServiceDefinition {
  const definition = loadSync(fileURLToPath(new URL('externalscaler.proto', import.meta.url)), { keepCase: true, longs: Number, defaults: true });
  const { externalscaler } = loadPackageDefinition(definition) as unknown as { externalscaler: { ExternalScaler: { service: ServiceDefinition } } };
  return externalscaler.ExternalScaler.service;
}

function unary<Request, Response>(answer: (request: Request) => Response) {
  return ({ request }: ServerUnaryCall<Request, Response>, reply: sendUnaryData<Response>): void => {
    try {
      reply(null, answer(request));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      reply({ code: error.code, details: error.message });
    }
  };
}

/** Tells whether the pool should have workers: now, and whenever that changes. */
function stream(decisions: Decisions, call: ServerWritableStream<ScaledObjectRef, Active>): void {
  let told: boolean | undefined;
  const tell = (desired: number | undefined) => {
    if (desired === undefined || desired > 0 === told) return;
    told = desired > 0;
    call.write({ result: told });
  };
  try {
    const pool = poolOf(decisions, call.request);
    tell(decisions.of(pool));
    call.on('close', decisions.listen(pool, tell));
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    call.emit('error', error);
  }
}

function poolOf(decisions: Decisions, ref: ScaledObjectRef | null): string {
  const pool = ref?.scalerMetadata['pool'];
  if (pool === undefined) throw new Refusal(status.INVALID_ARGUMENT, 'the trigger has no metadata `pool`');
  if (!decisions.has(pool)) throw new Refusal(status.NOT_FOUND, `the pool ${pool} is none of those that this autoscaler scales`);
  return pool;
}

/** Where nothing is decided, KEDA falls back to what its ScaledObject says, which a number would keep it from. */
function desiredOf(decisions: Decisions, ref: ScaledObjectRef | null): number {
  const desired = decisions.of(poolOf(decisions, ref));
  if (desired === undefined) throw new Refusal(status.UNAVAILABLE, 'nothing is decided for the pool now');
  return desired;
}
