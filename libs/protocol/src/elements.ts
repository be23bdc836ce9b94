// Single elements of tensors, as JSON holds them: which values each dtype takes, and how they are written.
import type { Dtype, NumericDtype } from './tensor.ts';

declare global {
  interface JSON {
    /** In Node 24 (ECMAScript: JSON.parse source text access), not yet in TypeScript's libraries. */
    rawJSON(text: string): unknown;
  }
}

const notFinite: Readonly<Record<string, number>> = { NaN, Infinity, '-Infinity': -Infinity };

/** JSON cannot hold NaN and the infinities as numbers; as strings they are taken, as in the proto3 JSON mapping. */
function acceptFloat(largest: number): (value: unknown) => number | undefined {
  return (value) => {
    if (typeof value === 'number' || typeof value === 'bigint') {
      const number = Number(value);
      return number <= largest && number >= -largest ? number : undefined;
    }
    return typeof value === 'string' && Object.hasOwn(notFinite, value) ? notFinite[value] : undefined;
  };
}

function acceptInteger(smallest: number, largest: number): (value: unknown) => number | undefined {
  return (value) => Number.isInteger(value) && (value as number) >= smallest && (value as number) <= largest ? value as number : undefined;
}

/** Integers beyond 2^53 arrive as bigint (the body's parser keeps their digits); a number beyond it has lost some, so it is refused. */
function acceptBigInteger(smallest: bigint, largest: bigint): (value: unknown) => bigint | undefined {
  return (value) => {
    if (!Number.isSafeInteger(value) && typeof value !== 'bigint') return undefined;
    const integer = BigInt(value as number | bigint);
    return integer >= smallest && integer <= largest ? integer : undefined;
  };
}

// The largest values that do not round to infinity: half a unit in the last place above the largest finite one.
const largestFloat32 = 3.4028235677973362e38;
const largestFloat16 = 65519.99;

/** What may stand in a tensor of each dtype: the element as it is stored, or undefined where it may not. */
export const acceptors: Readonly<Record<Dtype, (value: unknown) => unknown>> = {
  float32: acceptFloat(largestFloat32),
  float64: acceptFloat(Number.MAX_VALUE),
  float16: acceptFloat(largestFloat16),
  int8: acceptInteger(-128, 127),
  int16: acceptInteger(-32_768, 32_767),
  int32: acceptInteger(-2_147_483_648, 2_147_483_647),
  int64: acceptBigInteger(-(2n ** 63n), 2n ** 63n - 1n),
  uint8: acceptInteger(0, 255),
  uint16: acceptInteger(0, 65_535),
  uint32: acceptInteger(0, 4_294_967_295),
  uint64: acceptBigInteger(0n, 2n ** 64n - 1n),
  bool: (value) => (typeof value === 'boolean' ? Number(value) : undefined),
  string: (value) => (typeof value === 'string' && value.isWellFormed() && !value.includes('\0') ? value : undefined),
};

const floatHint = 'as a number, or "NaN", "Infinity", "-Infinity" as a string';
const bigHint = 'as plain digits (no fraction, no exponent)';
/** The same in words. */
export const expectations: Readonly<Record<Dtype, string>> = {
  float32: `a float32 ${floatHint}`,
  float64: `a float64 ${floatHint}`,
  float16: `a float16 (at most 65504) ${floatHint}`,
  int8: 'an int8, -128 to 127',
  int16: 'an int16, -32768 to 32767',
  int32: 'an int32, -2147483648 to 2147483647',
  int64: `an int64, -2^63 to 2^63-1, ${bigHint}`,
  uint8: 'a uint8, 0 to 255',
  uint16: 'a uint16, 0 to 65535',
  uint32: 'a uint32, 0 to 4294967295',
  uint64: `a uint64, 0 to 2^64-1, ${bigHint}`,
  bool: 'true or false',
  string: 'a string of whole Unicode characters, none of them NUL (ONNX Runtime’s binding would cut it there)',
};

/** A short name of what was found, never its whole content. */
export function describe(value: unknown): string {
  if (value === null) return 'null';
  if (value === undefined) return 'nothing';
  if (Array.isArray(value)) return `an array of ${value.length}`;
  if (typeof value === 'object') return 'an object';
  if (typeof value === 'string') return value.length > 20 ? `a string of ${value.length} characters` : `the string ${JSON.stringify(value)}`;
  return (value as number | bigint | boolean).toString();
}

function presentFloat(value: number | bigint): unknown {
  return Number.isFinite(value) ? value : String(value);
}

function presentNumber(value: number | bigint): unknown {
  return value;
}

/** A number where that is exact, else the digits themselves as raw JSON. */
function presentBigInteger(value: number | bigint): unknown {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : JSON.rawJSON(String(value));
}

/** How an element is written. */
export const presenters: Readonly<Record<NumericDtype, (value: number | bigint) => unknown>> = {
  float32: presentFloat, float64: presentFloat, float16: presentFloat,
  int8: presentNumber, int16: presentNumber, int32: presentNumber, int64: presentBigInteger,
  uint8: presentNumber, uint16: presentNumber, uint32: presentNumber, uint64: presentBigInteger,
  bool: (value) => value !== 0,
};
