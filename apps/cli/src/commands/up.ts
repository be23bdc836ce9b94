// `millrace up`: everything on one machine, until Ctrl-C.
import type { Model } from '@millrace/protocol';
import { Client, ClientError } from '../client.ts';
import { loopbackNetworks, startSystem, type WorkerRange } from '../embedded/system.ts';
import { prettyLog } from '../logs.ts';
import { untilSignal } from '../signals.ts';

export interface UpOptions {
  readonly redisServer: string | undefined;
  readonly redisUrl: string | undefined;
  readonly host: string;
  readonly port: number;
  readonly workers: number | WorkerRange;
  readonly models: string;
  readonly data: string;
  /** Networks (CIDR) that webhooks may go to although they are not public; this machine's own where it is not said and nobody else can ask for any. */
  readonly webhookAllowedNetworks: string | undefined;
  readonly key?: string;
}

/** Where only this machine reaches the API. */
const ownHosts = ['127.0.0.1', '::1', 'localhost'];

export async function up({ data, key, webhookAllowedNetworks, ...options }: UpOptions): Promise<void> {
  const stopped = untilSignal();
  // A Redis that was there before may have deliveries of others.
  const alone = ownHosts.includes(options.host) && !options.redisUrl;
  const networks = webhookAllowedNetworks ?? (alone ? loopbackNetworks : '');
  const system = await startSystem({ ...options, dataDir: data, env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: networks }, onLog: prettyLog() });
  const models = await modelsOrRefusal(system.url, key);
  process.stdout.write(`
Millrace is up: ${models ? `${models.length} models, ` : ''}${inWords(options.workers)}.

  API        ${system.url}/api/v1
  Reference  ${system.url}/docs
  Metrics    ${[system.url, ...system.workerUrls, system.autoscalerUrl].filter((url) => url !== undefined).map((url) => `${url}/metrics`).join('\n             ')}
${models ? example(system.url, models, key !== undefined) : keyNeeded}
Ctrl-C stops it.

`);
  await stopped;
  await system.stop();
}

function inWords(workers: number | WorkerRange): string {
  if (typeof workers !== 'number') return `${workers.least} to ${workers.most} workers, as there is work`;
  return `${workers} ${workers === 1 ? 'worker' : 'workers'}`;
}

const keyNeeded = `
There are API keys, so requests need one: \`millrace keys create --tenant <name>\` makes it, and
MILLRACE_API_KEY gives it to \`millrace predict\`, \`models\` and \`up\`.
`;

/** The models; undefined where there are keys, and ours does not open them. */
async function modelsOrRefusal(url: string, key: string | undefined): Promise<Model[] | undefined> {
  try {
    return await new Client(url, key).models();
  } catch (error) {
    if (error instanceof ClientError && [401, 403].includes(error.status)) return undefined;
    throw error;
  }
}

/** A line that works when pasted: the model with the fewest numbers to type. */
function example(url: string, models: readonly Model[], withKey: boolean): string {
  const candidates = models.flatMap(({ name, versions }) => {
    const [version] = versions.filter(({ state }) => state === 'ready');
    return version ? [{ name, inputs: version.inputs, size: JSON.stringify(exampleInputs(version.inputs)).length }] : [];
  }).toSorted((a, b) => a.size - b.size);
  const [smallest] = candidates;
  if (!smallest) return '\nThere is no model yet: put one at <name>/<version>/model.onnx.\n';
  const body = JSON.stringify({ model: smallest.name, inputs: exampleInputs(smallest.inputs) });
  return `
Try it:

  curl -s ${url}/api/v1/predictions -H 'content-type: application/json' -H 'prefer: wait=10'${withKey ? ' -H "authorization: Bearer $MILLRACE_API_KEY"' : ''} -d '${body}'
`;
}

type Inputs = Model['versions'][number]['inputs'];

function exampleInputs(inputs: Inputs): unknown {
  const filled = Object.fromEntries(inputs.map(({ name, dtype, shape }) => [name, nest(shape.map((dim) => (typeof dim === 'number' && dim > 0 ? dim : 1)), dtype)]));
  return inputs.length === 1 ? Object.values(filled)[0] : filled;
}

function nest([length, ...inner]: readonly number[], dtype: string, at = 0): unknown {
  if (length !== undefined) return Array.from({ length }, (_, index) => nest(inner, dtype, index));
  if (dtype === 'string') return `text ${at + 1}`;
  return dtype === 'bool' ? at % 2 === 0 : at + 1;
}
