// Where the records of a CSV or NDJSON file begin and end, byte by byte (RFC 4180: a quote is one as a field's
// first byte only, and nothing but the delimiter or the record's end follows the closing one).
// The same rules decide when rows are counted and when a broken block is taken apart, so the two never disagree.

export interface Dialect {
  /** One byte each. */
  readonly delimiter: number;
  /** Undefined in NDJSON, where every line is a record. */
  readonly quote: number | undefined;
  readonly escape: number | undefined;
}

export const newline = 0x0a;
export const carriageReturn = 0x0d;
const space = 0x20;

type Place = 'start' | 'plain' | 'quoted' | 'escaped' | 'closing';

/** Finds one record after another in bytes that come piece by piece. */
export class RecordScanner {
  readonly #dialect: Dialect;
  #place: Place = 'start';
  /** Where the next quote of `#looked` is: looked for once in each piece, not once in each line. */
  #quoteAt = -1;
  #looked: Uint8Array | undefined;
  /** Lines that have ended. */
  lines = 0;
  /** Whether a space stood between a quote and its field's edge: there DuckDB's reader has rules of its own. */
  spacedQuotes = false;

  constructor(dialect: Dialect) {
    this.#dialect = dialect;
  }

  /** Whether the bytes seen so far end inside quotes. */
  get inQuotes(): boolean {
    return this.#place === 'quoted' || this.#place === 'escaped';
  }

  /** The index behind the record's newline; -1 where it goes on after these bytes: the next call goes on with them. */
  next(bytes: Uint8Array, from: number): number {
    const end = bytes.indexOf(newline, from);
    const { quote } = this.#dialect;
    if (!this.inQuotes && this.#place !== 'closing') {
      if (quote === undefined || this.#nextQuote(bytes, from, quote) >= (end === -1 ? bytes.length : end)) {
        this.#place = end === -1 ? this.#placeAtEnd(bytes, from) : 'start';
        if (end !== -1) this.lines++;
        return end === -1 ? -1 : end + 1;
      }
    }
    return this.#walk(bytes, from);
  }

  #nextQuote(bytes: Uint8Array, from: number, quote: number): number {
    if (bytes !== this.#looked || this.#quoteAt < from) {
      const index = bytes.indexOf(quote, from);
      this.#quoteAt = index === -1 ? bytes.length : index;
      this.#looked = bytes;
    }
    return this.#quoteAt;
  }

  /** Without quotes, it only matters whether a field begins. */
  #placeAtEnd(bytes: Uint8Array, from: number): Place {
    const { delimiter, quote } = this.#dialect;
    if (quote === undefined) return 'plain';
    if (bytes.length === from) return this.#place;
    return bytes.at(-1) === delimiter ? 'start' : 'plain';
  }

  #walk(bytes: Uint8Array, from: number): number {
    const { delimiter, quote, escape } = this.#dialect;
    let place = this.#place;
    for (let index = from; index < bytes.length; index++) {
      const byte = bytes[index] as number;
      if (byte === newline) this.lines++;
      switch (place) {
        case 'escaped':
          place = 'quoted';
          continue;
        case 'quoted':
          if (byte === quote) place = 'closing';
          else if (byte === escape) place = 'escaped';
          continue;
        case 'closing':
          if (byte === quote && escape === quote) {
            place = 'quoted';
            continue;
          }
          if (byte === space && byte !== delimiter) this.spacedQuotes = true;
          break;
        case 'start':
          if (byte === quote) {
            place = 'quoted';
            continue;
          }
          break;
        case 'plain':
          if (byte === quote && bytes[index - 1] === space && isEdge(bytes[index - 2], delimiter)) this.spacedQuotes = true;
          break;
      }
      if (byte === newline) {
        this.#place = 'start';
        return index + 1;
      }
      place = byte === delimiter ? 'start' : 'plain';
    }
    this.#place = place;
    return -1;
  }
}

function isEdge(byte: number | undefined, delimiter: number): boolean {
  return byte === undefined || byte === delimiter || byte === newline;
}

/** Of whole records. Looks closely only where a quote and a space are neighbours at all. */
export function hasSpacedQuotes(bytes: Buffer, dialect: Dialect): boolean {
  const { quote } = dialect;
  if (quote === undefined || !(bytes.includes(Buffer.of(quote, space)) || bytes.includes(Buffer.of(space, quote)))) return false;
  const scanner = new RecordScanner(dialect);
  for (let at = 0; at !== -1 && at < bytes.length && !scanner.spacedQuotes;) at = scanner.next(bytes, at);
  return scanner.spacedQuotes;
}

const underscore = 0x5f;

/** Whether something like `1_000` stands in a field or a list, which DuckDB takes for a number. */
export function hasUnderscores(bytes: Buffer): boolean {
  for (let at = bytes.indexOf(underscore); at !== -1; at = bytes.indexOf(underscore, at + 1)) {
    let start = at;
    while (start > 0 && isOfNumber(bytes[start - 1] as number)) start--;
    if (start < at && !isOfWord(bytes[start - 1])) return true;
  }
  return false;
}

/** One of `0123456789+-.eE`. */
function isOfNumber(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || byte === 0x2b || byte === 0x2d || byte === 0x2e || (byte | 0x20) === 0x65;
}

function isOfWord(byte = 0): boolean {
  return ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a) || byte >= 0x80 || byte === underscore;
}

/** Whether a record, its newline included or not, has nothing in it: such lines are no rows. */
export function isBlank(record: Uint8Array): boolean {
  return record.length <= 2 && record.every((byte) => byte === newline || byte === carriageReturn);
}

/** The record without its line's end. */
export function trimEnd(record: Uint8Array): Uint8Array {
  let end = record.length;
  if (record[end - 1] === newline) end--;
  if (record[end - 1] === carriageReturn) end--;
  return record.subarray(0, end);
}

export type Fields = { readonly fields: readonly Uint8Array[] } | { readonly fault: string };

/** Takes a record apart. Fields are bytes: whether they are text is asked of those that are used. */
export function fieldsOf(record: Uint8Array, { delimiter, quote, escape }: Dialect): Fields {
  const bytes = trimEnd(record);
  const fields: Uint8Array[] = [];
  let at = 0;
  for (;;) {
    if (quote === undefined || bytes[at] !== quote) {
      const end = bytes.indexOf(delimiter, at);
      fields.push(bytes.subarray(at, end === -1 ? bytes.length : end));
      if (end === -1) return { fields };
      at = end + 1;
      continue;
    }
    const content: number[] = [];
    let index = at + 1;
    for (; ; index++) {
      const byte = bytes[index];
      if (byte === undefined) return { fault: `the quotes that open in field ${fields.length + 1} are not closed` };
      if (byte === escape && (escape !== quote || bytes[index + 1] === quote) && index + 1 < bytes.length) content.push(bytes[++index] as number);
      else if (byte === quote) break;
      else content.push(byte);
    }
    fields.push(Uint8Array.from(content));
    index++;
    if (index >= bytes.length) return { fields };
    if (bytes[index] !== delimiter) return { fault: `something follows the closing quotes of field ${fields.length}` };
    at = index + 1;
  }
}
