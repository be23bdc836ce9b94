// A trial as a row of a table, for the terminal and for the documentation.
import type { Trial } from './trial.ts';

const columns: readonly { readonly heading: string; readonly of: (trial: Trial) => string | number }[] = [
  { heading: 'accepted', of: ({ accepted }) => accepted },
  { heading: 'lost', of: ({ lost }) => lost },
  { heading: 'visible duplicates', of: ({ duplicates }) => duplicates },
  { heading: 'double executions', of: ({ doubleExecutions }) => doubleExecutions },
  { heading: 'canceled', of: ({ canceled }) => canceled },
  { heading: 'worker-crashed', of: ({ crashed }) => crashed },
  { heading: 'depth drift', of: ({ depthDrift }) => depthDrift },
  { heading: 'refused', of: ({ refused }) => refused },
  { heading: 'no answer', of: ({ unanswered }) => unanswered },
  { heading: 'webhooks', of: ({ told }) => told?.expected ?? '–' },
  { heading: 'lost', of: ({ told }) => told?.untold ?? '–' },
  { heading: 'again', of: ({ told }) => told?.again ?? '–' },
  { heading: 'recovery, s', of: ({ recoverySeconds }) => recoverySeconds?.toFixed(1) ?? '–' },
];
const nameWidth = 20;

export function headings(markdown: boolean): string {
  const names = columns.map(({ heading }) => heading);
  if (markdown) return `| fault | ${names.join(' | ')} |\n| --- |${names.map(() => ' ---: |').join('')}`;
  return `${''.padEnd(nameWidth)}${names.map((name) => `  ${name}`).join('')}`;
}

export function markdownRow(trial: Trial): string {
  return `| ${trial.title} | ${columns.map(({ of }) => of(trial)).join(' | ')} |`;
}

export function textRow(trial: Trial): string {
  return `${trial.fault.padEnd(nameWidth)}${columns.map(({ heading, of }) => `  ${String(of(trial)).padStart(heading.length)}`).join('')}`;
}
