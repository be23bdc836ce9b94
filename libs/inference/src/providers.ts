// Execution providers: what a manifest asks for, what this build of the runtime has, and what works on this machine.
import { listSupportedBackends } from 'onnxruntime-node';
import { describeFailure } from './failure.ts';
import type { Warning } from './thread-messages.ts';

/** The providers to try, in order of preference. The CPU is the last resort where the manifest names it, and only there. */
export function usableProviders(asked: readonly string[], warnings: Warning[]): readonly string[] {
  const known = new Set(listSupportedBackends().map(({ name }) => name));
  const wanted = asked.includes('cpu') ? asked.slice(0, asked.indexOf('cpu') + 1) : asked;
  for (const name of wanted) {
    if (!known.has(name)) warnings.push({ message: 'execution provider is not in this build of the runtime', detail: name });
  }
  return wanted.filter((name) => known.has(name));
}

/**
 * Calls `create` with ever fewer providers until it succeeds: a provider may be in the build and its libraries or its
 * device missing. Throws what the CPU threw; without the CPU among them, why none of them can be used.
 */
export async function withProviders<Session>(
  providers: readonly string[],
  warnings: Warning[],
  create: (providers: readonly string[]) => Promise<Session>,
): Promise<{ session: Session; providers: readonly string[] }> {
  for (let left = providers; left.length > 0; left = left.slice(1)) {
    try {
      return { session: await create(left), providers: left };
    } catch (error) {
      if (left[0] === 'cpu') throw error;
      warnings.push({ message: 'execution provider cannot be used', detail: `${left[0]}: ${describeFailure(error)}` });
    }
  }
  const reasons = warnings.map(({ message, detail }) => `${message}: ${detail}`).join('; ');
  throw new Error(`none of its execution providers works here, and the CPU is not among them (${reasons})`);
}
