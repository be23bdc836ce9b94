// Execution providers: what a manifest asks for, what this build of the runtime has, and what works on this machine.
import { listSupportedBackends } from 'onnxruntime-node';
import { describeFailure } from './failure.ts';
import type { Warning } from './thread-messages.ts';

/** The providers to try, in order of preference; the CPU is always the last resort. */
export function usableProviders(asked: readonly string[], warnings: Warning[]): readonly string[] {
  const known = new Set(listSupportedBackends().map(({ name }) => name));
  const beforeCpu = asked.includes('cpu') ? asked.slice(0, asked.indexOf('cpu')) : asked;
  for (const name of beforeCpu) {
    if (!known.has(name)) warnings.push({ message: 'execution provider is not in this build of the runtime', detail: name });
  }
  return [...beforeCpu.filter((name) => known.has(name)), 'cpu'];
}

/**
 * Calls `create` with ever fewer providers until it succeeds: a provider may be in the build and its libraries or its
 * device missing. Throws what the CPU alone threw.
 */
export async function withProviders<Session>(
  providers: readonly string[],
  warnings: Warning[],
  create: (providers: readonly string[]) => Promise<Session>,
): Promise<{ session: Session; providers: readonly string[] }> {
  for (let left = providers; ; left = left.slice(1)) {
    try {
      return { session: await create(left), providers: left };
    } catch (error) {
      if (left.length === 1) throw error;
      warnings.push({ message: 'execution provider cannot be used', detail: `${left[0]}: ${describeFailure(error)}` });
    }
  }
}
