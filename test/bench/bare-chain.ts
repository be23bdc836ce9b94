// The bare chain: add, claim, reply through Redis, without HTTP and inference. As a worker it settles what it claims at
// once; as a client it adds one prediction after another and waits for each reply. Tasks come by IPC.
import { bundleFormat, newBundleId, type ResultRecord } from '@millrace/protocol';
import { connect, Consumer, Producer, ReplyReader, Settler, untilReady } from '@millrace/queue';

const [role, redisUrl = ''] = process.argv.slice(2);
const pool = 'bare';
const onError = (error: unknown) => { throw error; };

/** What iris gives for one row. */
const tensor = (dtype: 'float32' | 'int64', shape: number[], bytes: number) => ({ dtype, shape, data: Buffer.alloc(bytes).toString('base64') });
const inputs = { features: tensor('float32', [1, 4], 16) };
const outputs = { label: tensor('int64', [1], 8), probabilities: tensor('float32', [1, 3], 12) };

async function work(): Promise<void> {
  const redis = connect({ redisUrl }, 'worker', onError);
  await untilReady(redis, 10_000);
  const settler = new Settler(redis, pool, 600);
  const consumer = new Consumer({
    redis, pool, lane: 'online', onError,
    handlers: {
      bundle: async ({ bundleId, bundle: { tenant, replyTo, model }, predictions }) => {
        const settlements = [...predictions].map(([index, { rows, acceptedAt }]) => {
          const record: ResultRecord = { outcome: 'succeeded', model: model.name, version: model.version, rows, acceptedAt, settledAt: Date.now(), outputs };
          return { index, record };
        });
        await settler.settle({ bundleId, tenant, replyTo }, settlements);
      },
    },
  });
  consumer.start();
}

async function client(): Promise<void> {
  const redis = connect({ redisUrl }, 'producer', onError);
  await untilReady(redis, 10_000);
  const producer = new Producer(redis, 600);
  let arrived = () => {};
  const reader = new ReplyReader({ redis, pool, node: 'bare', blocking: connect({ redisUrl }, 'blocking', onError), onReply: () => arrived(), onError });
  await reader.start();
  process.on('message', (amount: number) => {
    void (async () => {
      const latenciesMs: number[] = [];
      for (let count = 0; count < amount; count++) {
        const startedAt = performance.now();
        const reply = new Promise<void>((resolve) => { arrived = resolve; });
        await producer.add(pool, newBundleId(pool), {
          format: bundleFormat, tenant: 'default', model: { name: 'iris', version: 1, digest: '' }, lane: 'online', priority: 3, replyTo: 'bare',
          predictions: [{ inputs, rows: 1, acceptedAt: Date.now() }],
        }, []);
        await reply;
        latenciesMs.push(performance.now() - startedAt);
      }
      process.send?.(latenciesMs);
    })();
  });
}

await (role === 'worker' ? work() : client());
process.send?.('ready');
process.on('disconnect', () => process.exit());
