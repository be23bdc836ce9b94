// What is logged of an error. Libraries hang more onto theirs than a log may hold: a Redis command with its arguments (tensors,
// keys), the raw bytes of a request, a URL with its password. So the members are named here, and all others stay out.

interface LoggedError {
  readonly type: string;
  readonly message: string;
  readonly code?: string | number;
  /** The frames alone: the head of a stack repeats the message. */
  readonly stack?: string;
  readonly cause?: LoggedError;
}

/** Parts of messages that quote what was sent: Redis' unknown commands, V8's JSON errors. */
const quotes: readonly (readonly [RegExp, string])[] = [
  [/(with args beginning with:)[^]*/, '$1 …'],
  [/(?:, )?(?:\.\.\.)?"[^]*"(?:\.\.\.)? is not valid JSON/, ' … is not valid JSON'],
];
const longestMessage = 1000;
const longestChain = 5;

/** An error as it may be logged, with its causes. What is no error is not shown: it may be anything. */
export function loggedError(error: unknown, depth = 1): LoggedError {
  if (!(error instanceof Error)) return { type: typeof error, message: 'not an error object' };
  const { name, message, stack = '', cause } = error;
  const frames = stack.replace(message, '').split('\n').filter((line) => /^ +at /.test(line)).join('\n');
  const code = 'code' in error ? error.code : undefined;
  return {
    type: name,
    message: withoutQuotes(message),
    ...((typeof code === 'string' || typeof code === 'number') && { code }),
    ...(frames !== '' && { stack: frames }),
    ...(cause instanceof Error && depth < longestChain && { cause: loggedError(cause, depth + 1) }),
  };
}

function withoutQuotes(message: string): string {
  const text = quotes.reduce((rest, [quote, instead]) => rest.replace(quote, instead), message);
  return text.length > longestMessage ? `${text.slice(0, longestMessage)}…` : text;
}
