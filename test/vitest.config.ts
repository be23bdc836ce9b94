import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { privateFolders } from '../apps/cli/bin/private-folders.mjs';
import { findVersitygw } from '../apps/cli/bin/versitygw.mjs';

// Unit tests stand beside their source; integration tests start the real processes and a real Redis. These wait more than they
// work (for leases, locks and back-offs to pass), so that three files at once take two cores little more than one.
export default defineConfig({
  root: fileURLToPath(new URL('..', import.meta.url)),
  test: {
    // Hundreds of processes are started, and each of them reads the sources: as the launcher has it.
    env: { NODE_COMPILE_CACHE: privateFolders('compiled')[0] ?? '', MILLRACE_VERSITYGW: findVersitygw() ?? '' },
    projects: [
      { extends: true, test: { name: 'unit', include: ['libs/**/*.test.ts', 'apps/**/*.test.ts'], testTimeout: 30_000, hookTimeout: 60_000, sequence: { groupOrder: 0 } } },
      { extends: true, test: { name: 'integration', include: ['test/integration/**/*.test.ts'], testTimeout: 120_000, hookTimeout: 120_000, maxWorkers: 3, sequence: { groupOrder: 1 } } },
    ],
  },
});
