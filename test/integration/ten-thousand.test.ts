// 10,000 predictions of mixed models, shapes and clients, through the real processes, against a direct `session.run`.
import type { Prediction, Signature } from '@millrace/protocol';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { difference, runDirect } from './direct.ts';
import { randomOf } from './random.ts';
import { send, startTestSystem, type TestSystem } from './rig.ts';

const total = 10_000;
let system: TestSystem;
let signatures: Map<string, Signature>;

beforeAll(async () => {
  system = await startTestSystem({ workers: 2 });
  const { body } = await send(system, 'GET', '/api/v1/models');
  signatures = new Map(body.models.map(({ name, versions }: { name: string; versions: Signature[] }) => [name, versions[0]]));
});
afterAll(() => system.stop());

const random = randomOf(20_26);
const upTo = (most: number) => 1 + Math.floor(random() * most);
const table = (rows: number, columns: number, value: () => unknown) => Array.from({ length: rows }, () => Array.from({ length: columns }, value));
const float = () => Math.fround(random() * 10 - 5);

/** Inputs of random rows and widths, by model. */
const generators: Record<string, () => Record<string, unknown>> = {
  iris: () => ({ features: table(upTo(3), 4, () => Math.fround(random() * 7)) }),
  digits: () => ({ image: table(upTo(3), 64, () => Math.floor(random() * 17)) }),
  'two-in-two-out': () => { const rows = upTo(5); return { a: table(rows, 3, float), b: table(rows, 3, float) }; },
  'int64-double': () => ({ x: table(upTo(4), 2, () => Math.floor(random() * 2 ** 40)) }),
  'bool-not': () => ({ x: table(upTo(4), 4, () => random() < 0.5) }),
  'float16-scale': () => ({ x: table(upTo(4), 4, () => Math.round(random() * 100) / 4) }),
  'float64-sum': () => ({ x: table(upTo(3), upTo(6), () => random()) }),
  'string-concat': () => ({ x: table(upTo(3), 2, () => `ü${Math.floor(random() * 1e6)}`) }),
  'dynamic-width': () => ({ x: table(upTo(3), upTo(8), float) }),
  'no-batch': () => ({ x: table(3, 2, float), y: table(2, 2, float) }),
  scalar: () => ({ x: float() }),
  mixed: () => { const rows = upTo(4); return { ids: Array.from({ length: rows }, () => upTo(1000)), flag: Array.from({ length: rows }, () => random() < 0.5), weight: table(rows, 2, float) }; },
  'uint8-image': () => ({ x: Array.from({ length: upTo(3) }, () => Array.from({ length: 2 }, () => table(2, 3, () => Math.floor(random() * 256)))) }),
  'fixed-one': () => ({ x: table(1, 4, float) }),
};
// More of the small classifiers, as in real traffic.
const names = [...Object.keys(generators), ...Array.from({ length: 14 }, () => 'iris'), ...Array.from({ length: 6 }, () => 'digits')];

interface Case { readonly model: string; readonly inputs: Record<string, unknown> }

const wait = { prefer: 'wait=60' };

/** Four kinds of clients. Each gives back one ended prediction per case. */
const clients: ((cases: readonly Case[]) => Promise<Prediction[]>)[] = [
  // waits for each
  (cases) => Promise.all(cases.map(async (one) => (await send(system, 'POST', '/api/v1/predictions', one, wait)).body)),
  // submits, then polls
  (cases) => Promise.all(cases.map(async (one) => {
    const { body } = await send(system, 'POST', '/api/v1/predictions', one);
    return (await send(system, 'GET', `${body.urls.get}?wait=60`)).body;
  })),
  // sends all in one batch
  async (cases) => (await send(system, 'POST', '/api/v1/predictions:batch', { requests: cases }, wait)).body.results.map(({ prediction }: { prediction: Prediction }) => prediction),
  // the bare array where there is one input, and tensor objects back
  (cases) => Promise.all(cases.map(async ({ model, inputs }) => {
    const bare = Object.keys(inputs).length === 1 ? Object.values(inputs)[0] : inputs;
    const { body } = await send(system, 'POST', '/api/v1/predictions', { model, inputs: bare, parameters: { format: 'flat' } }, wait);
    return (await send(system, 'GET', `${body.urls.get}?format=nested`)).body;
  })),
];

test(`${total} predictions of mixed models, shapes and clients equal the direct computation`, async () => {
  const cases = Array.from({ length: total }, (): Case => {
    const model = names[Math.floor(random() * names.length)] as string;
    return { model, inputs: (generators[model] as () => Record<string, unknown>)() };
  });
  const ids = new Set<string>();
  const wrong: unknown[] = [];
  const groups = Array.from({ length: total / 25 }, (_, index) => cases.slice(25 * index, 25 * index + 25));
  const rest = groups.entries();
  await Promise.all(Array.from({ length: 8 }, async () => {
    for (const [index, group] of rest) {
      const predictions = await (clients[index % clients.length] as (typeof clients)[number])(group);
      for (const [place, one] of group.entries()) {
        const prediction = predictions[place];
        if (prediction) ids.add(prediction.id);
        const direct = await runDirect(system.models, one.model, signatures.get(one.model) as Signature, one.inputs);
        const outputs = (prediction?.outputs ?? {}) as Record<string, unknown>;
        const off = Object.keys(direct).reduce((largest, name) => Math.max(largest, difference(outputs[name], direct[name])), 0);
        if (prediction?.status !== 'succeeded' || !(off < 1e-5)) wrong.push({ one, prediction, direct, off });
      }
    }
  }));
  expect(wrong.slice(0, 3)).toEqual([]);
  expect(ids.size).toBe(total);
}, 300_000);
