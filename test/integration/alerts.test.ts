// The rules of deploy/prometheus do what they say: by Prometheus' own tool.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { findOrInstallPromtool } from '../../apps/cli/bin/promtool.mjs';
import { root } from './rig.ts';

const folder = path.join(root, 'deploy/prometheus');
const read = (file: string) => readFileSync(path.join(root, file), 'utf8');
let promtool: string;

beforeAll(() => { promtool = findOrInstallPromtool(); }, 600_000);

const run = (...args: string[]) => execFileSync(promtool, args, { cwd: folder, encoding: 'utf8', stdio: 'pipe' });

test('the configuration and the rules can be read', () => {
  expect(run('check', 'config', '--syntax-only', 'prometheus.yml')).toContain('SUCCESS');
  expect(run('check', 'rules', '--lint=all', '--lint-fatal', 'rules.yml')).toContain('SUCCESS');
});

test('the rules warn of what they should warn of, and of nothing else', () => {
  expect(run('test', 'rules', 'rules.test.yml')).toContain('SUCCESS');
});

interface Rule {
  readonly alert?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

const alerts = (parse(read('deploy/prometheus/rules.yml')) as { groups: readonly { rules: readonly Rule[] }[] }).groups.flatMap(({ rules }) => rules).filter(({ alert }) => alert !== undefined);

test('every alert is tested, says how urgent it is, and leads to what to do', () => {
  const tested = read('deploy/prometheus/rules.test.yml');
  const page = read('docs/09-observability.md');
  const anchors = [...page.matchAll(/^#+ (.+)$/gm)].map(([, heading]) => `docs/09-observability.md#${(heading as string).toLowerCase()}`);
  for (const { alert, labels, annotations } of alerts) {
    expect(tested).toContain(`alertname: ${alert}\n`);
    expect(['page', 'ticket']).toContain(labels['severity']);
    expect(annotations).toEqual({ summary: expect.stringMatching(/\w/), description: expect.stringMatching(/\w/), runbook_url: expect.toBeOneOf(anchors) });
  }
});
