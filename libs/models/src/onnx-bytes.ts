// For tests: ONNX files that no exporter at hand writes, made field by field.
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { readOnnxHeader } from './onnx-header.ts';
import type { OnnxHeader } from './onnx-header.ts';

export const varint = (value: number | bigint): number[] => {
  const bytes: number[] = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    if (rest < 128n) return [...bytes, Number(rest)];
    bytes.push(Number(rest & 127n) | 128);
  }
};
export const number = (field: number, value: number | bigint): Buffer => Buffer.from([...varint(field * 8), ...varint(value)]);
export const block = (field: number, ...parts: (Uint8Array | string)[]): Buffer => {
  const content = Buffer.concat(parts.map((part) => Buffer.from(part as string)));
  return Buffer.concat([Buffer.from([...varint(field * 8 + 2), ...varint(content.length)]), content]);
};

export const model = (...graph: Buffer[]): Buffer => Buffer.concat([number(1, 8), block(7, ...graph), block(8, number(2, 17))]);
const dim = (value: number | bigint | string): Buffer => block(1, typeof value === 'string' ? block(2, value) : number(1, value));
/** Of a value: its element type and shape. */
export const tensorType = (elementType: number, ...dims: (number | bigint | string)[]): Buffer =>
  block(1, number(1, elementType), block(2, ...dims.map(dim)));
export const input = (name: string, ...type: Buffer[]): Buffer => block(11, block(1, name), block(2, ...type));
export const output = (name: string, ...type: Buffer[]): Buffer => block(12, block(1, name), block(2, ...type));
export const y = output('y', tensorType(1, 'n'));

/** Writes the bytes into the folder and reads them as a model. */
export async function readBytes(folder: string, content: Uint8Array | string): Promise<OnnxHeader> {
  const path = join(folder, 'model.onnx');
  await writeFile(path, content);
  return readOnnxHeader(path);
}
