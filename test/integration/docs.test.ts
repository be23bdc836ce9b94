// The API describes itself: whole, true to its routes, and without anything from another host.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { send, startTestSystem, type TestSystem } from './rig.ts';

interface Operation {
  readonly summary?: string;
  readonly tags?: readonly string[];
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly required?: boolean }[];
  readonly responses?: Readonly<Record<string, { readonly description?: string; readonly content?: Readonly<Record<string, unknown>> }>>;
}

interface OpenApi {
  readonly openapi: string;
  readonly info: { readonly title: string; readonly version: string };
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
}

/** Tells of every route as the server is built: https://fastify.dev/docs/latest/Reference/Hooks/#onroute */
const tellRoutes = `
  import { subscribe } from 'node:diagnostics_channel';
  subscribe('fastify.initialization', ({ fastify }) => fastify.addHook('onRoute', ({ method, url }) => {
    for (const one of [method].flat()) console.log(JSON.stringify({ msg: 'route', method: one, url }));
  }));`;

let system: TestSystem;
let document: OpenApi;

beforeAll(async () => {
  system = await startTestSystem({ workers: 0, apiNodeArgs: ['--import', `data:text/javascript,${encodeURIComponent(tellRoutes)}`] });
  document = (await send(system, 'GET', '/openapi.json')).body;
});
afterAll(() => system.stop());

const operations = () => Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ name: `${method.toUpperCase()} ${path}`, path, operation })));

test('the document is OpenAPI 3.1', () => {
  expect(document.openapi).toMatch(/^3\.1\.\d+$/);
  expect(document.info).toMatchObject({ title: 'Millrace', version: expect.stringMatching(/^\d+\.\d+\.\d+/) });
});

test('every reference leads somewhere', () => {
  for (const [, pointer] of JSON.stringify(document).matchAll(/"\$ref":"([^"]*)"/g)) {
    const target = (pointer as string).split('/').slice(1).reduce<unknown>((place, key) => (place as Record<string, unknown> | undefined)?.[key.replaceAll('~1', '/').replaceAll('~0', '~')], document);
    expect([pointer, target]).toEqual([expect.stringMatching(/^#\//), expect.anything()]);
  }
});

test('every operation says what it does, what it takes and what it answers', () => {
  for (const { name, path, operation: { summary, tags, parameters = [], responses = {} } } of operations()) {
    const text = expect.stringMatching(/\w/);
    expect({ name, summary, tags }).toEqual({ name, summary: text, tags: [text] });
    expect([name, ...Object.keys(responses)]).toContainEqual(expect.stringMatching(/^2\d\d$/));
    for (const [status, { description }] of Object.entries(responses)) expect([name, status, description]).toEqual([name, status, expect.any(String)]);
    const inPath = parameters.filter((parameter) => parameter.in === 'path' && parameter.required).map((parameter) => parameter.name);
    expect([name, ...inPath]).toEqual([name, ...[...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter)]);
  }
});

test('problems and metrics are documented in the form that they are served in', async () => {
  const refused = await send(system, 'GET', '/api/v1/predictions/nonsense');
  const metrics = await send(system, 'GET', '/metrics');
  const typeOf = ({ headers }: { headers: Headers }) => headers.get('content-type')?.split(';')[0];
  const documented = (path: string, status: number) => Object.keys(document.paths[path]?.['get']?.responses?.[status]?.content ?? {});
  expect(documented('/api/v1/predictions/{id}', 404)).toEqual([typeOf(refused)]);
  expect(documented('/metrics', 200)).toEqual([typeOf(metrics)]);
});

test('every route is documented, and nothing else', () => {
  const routes = system.logs.filter(({ msg }) => msg === 'route').map(({ method, url }) => `${String(method)} ${String(url).replaceAll(/(?<!:):(\w+)/g, '{$1}').replaceAll('::', ':')}`);
  const aboutItself = /^\w+ \/(?:docs(?:\/.*)?|openapi\.json|problems\/\{code\})$/;
  const documentable = routes.filter((route) => !route.startsWith('HEAD ') && !aboutItself.test(route));
  expect(documentable.length).toBeGreaterThan(5);
  expect(operations().map(({ name }) => name).toSorted()).toEqual(documentable.toSorted());
});

test('the reference is served with all that it shows, from the server itself', async () => {
  const queue = [new URL('/docs', system.url).href];
  const seen = new Set(queue);
  for (const url of queue) {
    const response = await fetch(url);
    expect([url, response.status]).toEqual([url, 200]);
    const text = await response.text();
    if (!response.headers.get('content-type')?.startsWith('text/html')) continue;
    for (const [, link] of text.matchAll(/(?:src|href)="([^"#]+)"/g)) {
      const target = new URL(link as string, response.url);
      expect([link, target.origin]).toEqual([link, system.url]);
      if (!seen.has(target.href)) queue.push(target.href);
      seen.add(target.href);
    }
  }
  expect(seen.size).toBeGreaterThan(4);
  const settings = await (await fetch(`${system.url}/docs/static/swagger-initializer.js`)).text();
  expect(settings).toContain('validatorUrl: null');
});
