// A gRPC client as KEDA is one.
import path from 'node:path';
import { type Client, credentials, loadPackageDefinition, type ClientReadableStream, type requestCallback, type ServiceError } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { root } from './rig.ts';

export interface Ref {
  readonly name: string;
  readonly namespace: string;
  readonly scalerMetadata: Readonly<Record<string, string>>;
}

type Unary = (request: object, callback: requestCallback<object>) => void;

interface ScalerClient extends Client {
  readonly IsActive: Unary;
  readonly GetMetricSpec: Unary;
  readonly GetMetrics: Unary;
  readonly StreamIsActive: (ref: Ref) => ClientReadableStream<{ result: boolean }>;
}

export class KedaClient {
  readonly #client: ScalerClient;

  constructor(port: number) {
    const definition = loadSync(path.join(root, 'apps/autoscaler/src/externalscaler.proto'), { keepCase: true, longs: Number, defaults: true });
    const { externalscaler } = loadPackageDefinition(definition) as unknown as { externalscaler: { ExternalScaler: new (address: string, with_: object) => ScalerClient } };
    this.#client = new externalscaler.ExternalScaler(`127.0.0.1:${port}`, credentials.createInsecure());
  }

  /** What it answers, or the name of gRPC's code and the reason. */
  call(method: 'IsActive' | 'GetMetricSpec' | 'GetMetrics', request: object): Promise<object> {
    return new Promise((resolve, reject) => {
      this.#client[method](request, (error, answer) => (error ? reject(error) : resolve(answer as object)));
    });
  }

  /** What the stream tells, and how it ended: undefined while it has not, `null` where well. */
  stream(ref: Ref): { readonly told: boolean[]; ended(): ServiceError | null | undefined } {
    const told: boolean[] = [];
    let ended: ServiceError | null | undefined;
    this.#client.StreamIsActive(ref)
      .on('data', ({ result }: { result: boolean }) => told.push(result))
      .on('error', (error: ServiceError) => { ended = error; })
      .on('end', () => { ended ??= null; });
    return { told, ended: () => ended };
  }

  close(): void {
    this.#client.close();
  }
}
