import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type Dialect, fieldsOf, RecordScanner } from './csv-records.ts';

const byte = (character: string): number => character.charCodeAt(0);
const csv: Dialect = { delimiter: byte(','), quote: byte('"'), escape: byte('"') };
const backslash: Dialect = { delimiter: byte(';'), quote: byte('\''), escape: byte('\\') };

/** The records of a text that comes in pieces of these sizes. */
function records(text: string, dialect: Dialect, pieceBytes: number): { readonly records: string[]; readonly lines: number; readonly inQuotes: boolean } {
  const bytes = Buffer.from(text);
  const scanner = new RecordScanner(dialect);
  const found: Buffer[] = [];
  let start = 0;
  for (let piece = 0; piece < bytes.length; piece += pieceBytes) {
    const part = bytes.subarray(piece, piece + pieceBytes);
    for (let at = 0; ;) {
      const end = scanner.next(part, at);
      if (end === -1) break;
      found.push(bytes.subarray(start, piece + end));
      start = piece + end;
      at = end;
    }
  }
  if (start < bytes.length) found.push(bytes.subarray(start));
  return { records: found.map(String), lines: scanner.lines, inQuotes: scanner.inQuotes };
}

test('a newline inside quotes ends no record; a quote inside a field opens none', () => {
  const text = 'a,"b\n""c"",\nd"\nx"y,1\n "q\n,2\n"open\n';
  expect(records(text, csv, 1000)).toEqual({ records: ['a,"b\n""c"",\nd"\n', 'x"y,1\n', ' "q\n', ',2\n', '"open\n'], lines: 7, inQuotes: true });
  expect(records('\'a\\\'\n\';1\n\'\\\\\'\n', backslash, 1000).records).toEqual(['\'a\\\'\n\';1\n', '\'\\\\\'\n']);
});

test('records are the same however the bytes are cut', () => {
  const text = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r', ' ', '\'', '\\', ';', 'é'), maxLength: 60 });
  fc.assert(fc.property(text, fc.constantFrom(csv, backslash, { delimiter: byte('\n'), quote: undefined, escape: undefined }), fc.integer({ min: 1, max: 9 }), (input, dialect, pieceBytes) => {
    expect(records(input, dialect, pieceBytes)).toEqual(records(input, dialect, 1000));
    expect(records(input, dialect, pieceBytes).records.join('')).toBe(input);
  }), { numRuns: 2000 });
});

test('what was written comes back', () => {
  const field = fc.string({ unit: fc.constantFrom('a', '"', ',', '\n', '\r', 'é'), maxLength: 6 });
  fc.assert(fc.property(fc.array(field, { minLength: 1, maxLength: 5 }), (fields) => {
    const record = `${fields.map((text) => `"${text.replaceAll('"', '""')}"`).join(',')}\r\n`;
    expect(fieldsOf(Buffer.from(record), csv)).toEqual({ fields: fields.map((text) => expect.toSatisfy((bytes: Uint8Array) => Buffer.from(bytes).toString() === text) as Uint8Array) });
    expect(records(record, csv, 7).records).toEqual([record]);
  }));
});

test('tells what is wrong with a record', () => {
  expect(fieldsOf(Buffer.from('"a" ,b'), csv)).toEqual({ fault: 'something follows the closing quotes of field 1' });
  expect(fieldsOf(Buffer.from('a,"b'), csv)).toEqual({ fault: 'the quotes that open in field 2 are not closed' });
  expect(fieldsOf(Buffer.from('"a"b,c'), csv)).toEqual({ fault: 'something follows the closing quotes of field 1' });
});
