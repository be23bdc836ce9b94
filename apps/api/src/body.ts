// JSON bodies, read without losing anything: integers beyond 2^53 keep their digits, nesting is bounded, and keys that
// would poison prototypes are refused.
import { MillraceError } from '@millrace/protocol';
import secureJsonParse from 'secure-json-parse';

export const maxDepth = 100;

/** An integer of 16 digits or more, which a double may not hold. It may also stand in a string: that only costs time. */
const longInteger = /(?:^|[\s,:[-])\d{16,}(?![\d.eE])/;

type Reviver = (key: string, value: unknown, context?: { readonly source?: string }) => unknown;

const keepDigits: Reviver = (_key, value, context) =>
  typeof value === 'number' && !Number.isSafeInteger(value) && context?.source !== undefined && /^-?\d+$/.test(context.source)
    ? BigInt(context.source)
    : value;

/** Parses a body; an empty one is undefined. Throws `malformed-request`. */
export function parseBody(text: string): unknown {
  if (text === '') return undefined;
  checkDepth(text);
  const reviver = longInteger.test(text) ? keepDigits : null;
  try {
    return secureJsonParse.parse(text, reviver, { protoAction: 'error', constructorAction: 'error' });
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const hint = /\b(NaN|-?Infinity)\b/.test(text) ? '; JSON has no NaN or Infinity: write them as the strings "NaN", "Infinity", "-Infinity"' : '';
    throw new MillraceError('malformed-request', `The body is not JSON: ${message}${hint}`, { cause: error });
  }
}

function checkDepth(text: string): void {
  let depth = 0;
  let inString = false;
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (inString) {
      if (code === 0x5c /* \ */) at++;
      else if (code === 0x22 /* " */) inString = false;
    } else if (code === 0x22) {
      inString = true;
    } else if (code === 0x5b /* [ */ || code === 0x7b /* { */) {
      if (++depth > maxDepth) throw new MillraceError('malformed-request', `The body is nested more than ${maxDepth} levels deep`);
    } else if (code === 0x5d || code === 0x7d) {
      depth--;
    }
  }
}
