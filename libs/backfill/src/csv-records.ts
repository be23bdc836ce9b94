// Where the records of a CSV or NDJSON file begin and end, byte by byte (RFC 4180; a quote opens at a field's start only).
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

  /** Without quotes, only the last field's beginning matters. */
  #placeAtEnd(bytes: Uint8Array, from: number): Place {
    const { delimiter, quote } = this.#dialect;
    if (quote === undefined) return 'plain';
    for (let index = bytes.length - 1; index >= from; index--) {
      const byte = bytes[index] as number;
      if (byte === delimiter) return 'start';
      if (byte !== space) return 'plain';
    }
    return this.#place;
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
          break;
        case 'start':
          if (byte === quote) {
            place = 'quoted';
            continue;
          }
          break;
        case 'plain':
          break;
      }
      if (byte === newline) {
        this.#place = 'start';
        return index + 1;
      }
      if (byte === delimiter) place = 'start';
      else if (byte !== space || place !== 'start') place = 'plain';
    }
    this.#place = place;
    return -1;
  }
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
    let start = at;
    while (bytes[start] === space) start++;
    if (quote === undefined || bytes[start] !== quote) {
      const end = bytes.indexOf(delimiter, at);
      fields.push(bytes.subarray(at, end === -1 ? bytes.length : end));
      if (end === -1) return { fields };
      at = end + 1;
      continue;
    }
    const content: number[] = [];
    let index = start + 1;
    for (; ; index++) {
      const byte = bytes[index];
      if (byte === undefined) return { fault: `the quotes that open in field ${fields.length + 1} are not closed` };
      if (byte === escape && (escape !== quote || bytes[index + 1] === quote) && index + 1 < bytes.length) content.push(bytes[++index] as number);
      else if (byte === quote) break;
      else content.push(byte);
    }
    fields.push(Uint8Array.from(content));
    index++;
    while (bytes[index] === space) index++;
    if (index >= bytes.length) return { fields };
    if (bytes[index] !== delimiter) return { fault: `something follows the closing quotes of field ${fields.length}` };
    at = index + 1;
  }
}
