// Reads the fields of a protobuf message from a file, in order, and seeks over what nobody asks for: the weights of
// a 2 GB model cost nothing. Encoding: https://protobuf.dev/programming-guides/encoding/
import type { FileHandle } from 'node:fs/promises';

/** Of a file, in bytes; `end` is the first one that is not part of it. */
export interface Range {
  readonly start: number;
  readonly end: number;
}

export interface Field {
  /** Number and wire type in one, as the wire has them: see `varintTag` and `lengthTag`. */
  readonly tag: number;
  /** A varint as a signed 64-bit number, exact up to 2^53; 0 for other wire types. */
  readonly value: number;
  /** Where the content of a length-delimited field stands. */
  readonly range: Range;
}

export const varintTag = (fieldNumber: number): number => fieldNumber * 8;
export const fixed64Tag = (fieldNumber: number): number => fieldNumber * 8 + 1;
export const lengthTag = (fieldNumber: number): number => fieldNumber * 8 + 2;
export const fixed32Tag = (fieldNumber: number): number => fieldNumber * 8 + 5;

/** Tags by name: those of a message that somebody wants to see. */
export type Tags = Readonly<Record<string, number>>;

/** The bytes cannot be a whole protobuf message; the text says at which byte and why. */
export class MalformedProtobuf extends Error {}

/** One read of this size holds a small model's whole graph. */
const windowBytes = 64 * 1024;
/** The longest start of a field: a tag and a length or value, ten bytes each. */
const fieldStartBytes = 20;
/** Bounds on what a hostile file costs: five million messages take about four seconds. */
const maxMessages = 5_000_000;
const maxTextBytes = 64 * 1024 * 1024;

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A window onto a file that moves as fields are read. One reader is used by one caller at a time. */
export class ProtobufReader {
  readonly #file: FileHandle;
  readonly #sizeBytes: number;
  readonly #window: Buffer;
  #start = 0;
  #end = 0;
  /** Where the last varint ended. */
  #next = 0;
  #messages = 0;
  #textBytes = 0;

  constructor(file: FileHandle, sizeBytes: number) {
    this.#file = file;
    this.#sizeBytes = sizeBytes;
    this.#window = Buffer.allocUnsafe(Math.min(windowBytes, sizeBytes));
  }

  get whole(): Range {
    return { start: 0, end: this.#sizeBytes };
  }

  /**
   * The wanted fields of the message in this range, in the order of the file. Throws MalformedProtobuf where the bytes
   * are none. The file is only awaited when the window runs out, once in thousands of fields.
   */
  async *fields({ start, end }: Range, wanted: Tags): AsyncGenerator<Field, void, void> {
    if (++this.#messages > maxMessages) throw new MalformedProtobuf(`it has more than ${maxMessages} parts`);
    const tags = Object.values(wanted);
    let position = start;
    while (position < end) {
      if (!this.#holdsStart(position, end)) await this.#load(position);
      const field = this.#field(position, end);
      position = field.range.end;
      // Passed over in here: one step of an asynchronous generator costs as much as many fields.
      if (tags.includes(field.tag)) yield field;
    }
  }

  /** The numbers of a packed field. */
  async *varints({ start, end }: Range): AsyncGenerator<number, void, void> {
    let position = start;
    while (position < end) {
      if (!this.#holdsStart(position, end)) await this.#load(position);
      const value = this.#varint(position, end);
      position = this.#next;
      yield value;
    }
  }

  /** The UTF-8 text in this range. Throws MalformedProtobuf where it is none or longer than `maxBytes`. */
  async text({ start, end }: Range, maxBytes: number): Promise<string> {
    if (end - start > maxBytes) throw new MalformedProtobuf(`the text at byte ${start} has ${end - start} bytes, more than ${maxBytes}`);
    this.#textBytes += end - start;
    if (this.#textBytes > maxTextBytes) throw new MalformedProtobuf(`its names have more than ${maxTextBytes} bytes`);
    if (start < this.#start || end > this.#end) await this.#load(start);
    try {
      return utf8.decode(this.#window.subarray(start - this.#start, end - this.#start));
    } catch {
      throw new MalformedProtobuf(`the text at byte ${start} is not UTF-8`);
    }
  }

  #holdsStart(position: number, end: number): boolean {
    return position >= this.#start && Math.min(position + fieldStartBytes, end) <= this.#end;
  }

  #field(position: number, end: number): Field {
    const tag = this.#varint(position, end);
    const content = this.#next;
    if (tag < 8 || tag > 0xffff_ffff) throw new MalformedProtobuf(`no field starts at byte ${position}`);
    switch (tag % 8) {
      case 0: {
        const value = this.#varint(content, end);
        return { tag, value, range: { start: content, end: this.#next } };
      }
      case 1:
        return { tag, value: 0, range: this.#content(content, 8, end) };
      case 2: {
        const lengthBytes = this.#varint(content, end);
        return { tag, value: 0, range: this.#content(this.#next, lengthBytes, end) };
      }
      case 5:
        return { tag, value: 0, range: this.#content(content, 4, end) };
      default:
        throw new MalformedProtobuf(`no field starts at byte ${position}`);
    }
  }

  #content(start: number, lengthBytes: number, end: number): Range {
    if (lengthBytes < 0 || lengthBytes > end - start) {
      throw new MalformedProtobuf(`byte ${start} should begin ${lengthBytes} bytes of content, but only ${end - start} follow`);
    }
    return { start, end: start + lengthBytes };
  }

  #varint(position: number, end: number): number {
    let value = 0;
    for (let index = 0; index < 7; index++) {
      const byte = this.#byte(position + index, end);
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (byte < 0x80) return value;
    }
    return this.#longVarint(position, end);
  }

  /** More than 49 bits: beyond what a sum of numbers holds exactly, and where negative numbers are (ten bytes). */
  #longVarint(position: number, end: number): number {
    let value = 0n;
    for (let index = 0; index < 10; index++) {
      const byte = this.#byte(position + index, end);
      value |= BigInt(byte & 0x7f) << BigInt(7 * index);
      if (byte < 0x80) return Number(BigInt.asIntN(64, value));
    }
    throw new MalformedProtobuf(`the number at byte ${position} has more than ten bytes`);
  }

  /** Leaves `#next` behind the byte. */
  #byte(position: number, end: number): number {
    if (position >= end) throw new MalformedProtobuf(`it ends at byte ${end}, inside a number`);
    this.#next = position + 1;
    return this.#window[position - this.#start] as number;
  }

  async #load(position: number): Promise<void> {
    const wanted = Math.min(this.#window.length, this.#sizeBytes - position);
    this.#start = this.#end = position;
    while (this.#end - position < wanted) {
      const filled = this.#end - position;
      const { bytesRead } = await this.#file.read(this.#window, filled, wanted - filled, this.#end);
      if (bytesRead === 0) throw new MalformedProtobuf(`it ends at byte ${this.#end}, before its size of ${this.#sizeBytes}`);
      this.#end += bytesRead;
    }
  }
}
