// What the processes serve is what docs/04-metrics.md says, and all that rules and dashboards ask for.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parser } from '@prometheus-io/lezer-promql';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { backfill, type BackfillRig, ends, startBackfills, write } from './backfill-rig.ts';
import { Receiver } from './receiver.ts';
import { predict, root, send, until } from './rig.ts';

let rig: BackfillRig;
let receiver: Receiver;
/** The labels of each metric's samples; metrics whose labels have had no value yet have none. */
let scraped: ReadonlyMap<string, ReadonlySet<string>>;

const iris = [[5.1, 3.5, 1.4, 0.2]];
const read = (file: string) => readFileSync(path.join(root, file), 'utf8');

beforeAll(async () => {
  receiver = await Receiver.start();
  rig = await startBackfills({ workers: { least: 1, most: 1 }, env: { MILLRACE_WEBHOOK_ALLOWED_NETWORKS: '127.0.0.0/8' } });
  const worker = await until(() => rig.system.logs.find(({ msg }) => msg === 'worker is ready'), 'the worker');
  await workOfEachKind();
  const { url, dispatcherUrl, autoscalerUrl } = rig.system;
  scraped = labelsOf(await Promise.all([url, dispatcherUrl, autoscalerUrl, `http://127.0.0.1:${String(worker['metricsPort'])}`].map(async (place) => (await fetch(`${place}/metrics`)).text())));
});

afterAll(async () => {
  await rig.stop();
  await receiver.stop();
});

async function workOfEachKind(): Promise<void> {
  const { system } = rig;
  const { body: told } = await predict(system, 'iris', iris, { deadline_ms: 30_000, webhook: { url: `${receiver.url}/told` } });
  await predict(system, 'fails-on-negative', [[-1]], { max_attempts: 1 });
  await send(system, 'POST', '/api/v1/predictions', { model: 'nothing', inputs: iris });
  await write(rig, 'flowers.csv', `a,b,c,d\n${'5.1,3.5,1.4,0.2\n'.repeat(100)}`);
  const id = await backfill(rig, 'iris', { input: 'flowers.csv', output: 'kinds.csv', mapping: { features: ['a', 'b', 'c', 'd'] } });
  expect((await ends(rig, id)).progress.state).toBe('completed');
  await until(() => receiver.of(told.id)[0], 'the webhook');
  // What was sent is counted a moment after it has arrived.
  await until(async () => /millrace_webhook_deliveries_total\{outcome="delivered"/.test(await (await fetch(`${system.dispatcherUrl}/metrics`)).text()), 'the count');
}

function labelsOf(texts: readonly string[]): Map<string, Set<string>> {
  const metrics = new Map<string, Set<string>>();
  const of = (name: string): Set<string> => {
    const labels = metrics.get(name) ?? new Set<string>();
    metrics.set(name, labels);
    return labels;
  };
  for (const line of texts.flatMap((text) => text.split('\n'))) {
    const [, declared, type] = /^# TYPE (\S+) (\S+)/.exec(line) ?? [];
    if (declared) for (const suffix of type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']) of(declared + suffix);
    const [, name, labels = ''] = /^(\w+)\{(.*)\} \S+$/.exec(line) ?? [];
    if (name) for (const [, label] of labels.matchAll(/(\w+)="/g)) of(name).add(label as string);
  }
  return metrics;
}

interface Dashboard {
  readonly uid: string;
  readonly id?: number;
  readonly templating: { readonly list: readonly { readonly name: string; readonly type: string; readonly definition?: string }[] };
  readonly annotations: { readonly list: readonly { readonly name: string; readonly expr: string }[] };
  readonly panels: readonly {
    readonly id: number; readonly title: string; readonly type: string; readonly datasource?: { readonly uid: string };
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
    readonly targets?: readonly { readonly expr: string; readonly datasource: { readonly uid: string } }[];
  }[];
}

const dashboards = readdirSync(path.join(root, 'deploy/grafana/dashboards')).map((file) => [file, JSON.parse(read(`deploy/grafana/dashboards/${file}`)) as Dashboard] as const);
const rules = (parse(read('deploy/prometheus/rules.yml')) as { groups: { rules: { record?: string; expr: string }[] }[] }).groups.flatMap((group) => group.rules);
const recorded = new Set(rules.map(({ record }) => record));

const queriesBySource: readonly (readonly [source: string, queries: readonly string[]])[] = [
  ['rules.yml', rules.map(({ expr }) => expr)],
  ...dashboards.map(([file, { panels, annotations, templating }]) => [file, [
    ...panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr.replaceAll('$__rate_interval', '5m'))),
    ...annotations.list.map(({ expr }) => expr),
    ...templating.list.flatMap(({ definition = '' }) => definition.replace(/^label_values\((.+), (\w+)\)$/, 'count by ($2) ($1)') || []),
  ]] as const),
];

/** The metrics and labels that a query names. */
function namesIn(query: string): { metrics: string[]; labels: string[] } {
  const texts: Record<string, string[]> = { VectorSelector: [], LabelName: [] };
  parser.parse(query).iterate({ enter: ({ name, from, to, type }) => {
    if (type.isError) throw new Error(`no PromQL: ${query}`);
    texts[name]?.push(query.slice(from, to));
  } });
  const { VectorSelector: selectors = [], LabelName: labels = [] } = texts;
  return { metrics: selectors.map((selector) => selector.split('{')[0] as string), labels };
}

/** What Prometheus says itself of what it scrapes, and the labels that are added to it there and by the rules. */
const own = { metric: 'up', labels: ['job', 'instance', 'le', 'slo'] };

test.each(queriesBySource)('%s asks for metrics and labels that are there', (_source, queries) => {
  for (const query of queries) {
    const { metrics, labels } = namesIn(query);
    for (const metric of metrics) expect([query, metric, scraped.has(metric) || recorded.has(metric) || metric === own.metric]).toEqual([query, metric, true]);
    // Of a metric without a sample nobody knows the labels.
    if (metrics.some((metric) => scraped.get(metric)?.size === 0)) continue;
    const made = /label_replace\(.*, "(\w+)", "\$1"/.exec(query)?.slice(1) ?? [];
    const known = [...metrics.flatMap((metric) => [...scraped.get(metric) ?? []]), ...own.labels, ...made];
    expect([query, labels.filter((label) => !known.includes(label))]).toEqual([query, []]);
  }
});

test('every metric is documented, and every documented one is there', () => {
  const documented = [...read('docs/04-metrics.md').matchAll(/^\| `(\w+)` \| (\w+) \|/gm)].flatMap(([, name, type]) => (type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name as string]));
  expect([...new Set(documented)].toSorted()).toEqual([...scraped.keys()].toSorted());
});

test.each(dashboards)('%s can be put into any Grafana', (file, { uid, id, templating, panels }) => {
  expect([uid, id]).toEqual([`millrace-${file.replace('.json', '')}`, undefined]);
  expect(templating.list[0]).toMatchObject({ name: 'datasource', type: 'datasource' });
  const sources = panels.flatMap(({ datasource, targets = [] }) => [datasource, ...targets.map((target) => target.datasource)]).filter((source) => source !== undefined);
  expect(new Set(sources.map((source) => source.uid))).toEqual(new Set(['${datasource}']));
  expect(new Set(panels.map((panel) => panel.id)).size).toBe(panels.length);
  for (const [place, { title, gridPos: { x, y, w, h } }] of panels.entries()) {
    expect([title, x + w <= 24]).toEqual([title, true]);
    const covered = panels.slice(place + 1).filter(({ gridPos: other }) => x < other.x + other.w && other.x < x + w && y < other.y + other.h && other.y < y + h);
    expect([title, covered.map((panel) => panel.title)]).toEqual([title, []]);
  }
});
