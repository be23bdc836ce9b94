// For tests: prints the corpus as it was tested. The reporter names only what fails or is slow.
import { afterAll, afterEach } from 'vitest';

/** Lists the cases of this file that passed, by group, when all have run. */
export function listCases(): void {
  const passed = new Map<string, string[]>();
  afterEach(({ task }) => {
    if (task.result?.errors?.length) return;
    const group = task.suite?.name ?? '';
    passed.set(group, [...passed.get(group) ?? [], task.name]);
  });
  afterAll(() => {
    const lines = [...passed].map(([group, names]) => `${group} (${names.length}): ${names.join(' · ')}`);
    process.stdout.write(`${lines.join('\n')}\n`);
  });
}
