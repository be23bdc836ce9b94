import { appendFile, mkdtemp, realpath, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FileMemory } from './file-memory.ts';
import { ModelRefused } from './model-refused.ts';

let folder: string;
let path: string;
let reads: number;

beforeEach(async () => {
  folder = await realpath(await mkdtemp(join(tmpdir(), 'millrace-files-')));
  path = join(folder, 'file');
  reads = 0;
  await writeFile(path, 'content');
});
afterEach(() => rm(folder, { recursive: true }));

test('reads a file again only when it changed, even if its time of modification is set back', async () => {
  const memory = new FileMemory(async () => ++reads);
  expect(await memory.read(path, folder)).toEqual({ content: 1 });
  memory.forgetOthers();
  expect(await memory.read(path, folder)).toEqual({ content: 1 });
  await writeFile(path, 'CONTENT');
  await utimes(path, 0, 0);
  expect(await memory.read(path, folder)).toEqual({ content: 2 });
});

test('remembers a refusal as long as the file stays', async () => {
  const memory = new FileMemory(() => Promise.reject(new ModelRefused(`refused ${++reads}`)));
  expect(await memory.read(path, folder)).toEqual({ refused: 'refused 1' });
  expect(await memory.read(path, folder)).toEqual({ refused: 'refused 1' });
});

test('refuses a file that changes while it is read, and reads it again', async () => {
  const memory = new FileMemory(async (file) => {
    if (++reads === 1) await appendFile(file, 'more');
    return reads;
  });
  expect(await memory.read(path, folder)).toEqual({ refused: 'file changed while it was read; the next scan reads it again' });
  expect(await memory.read(path, folder)).toEqual({ content: 2 });
});

test('tries a file that cannot be read again every time', async () => {
  const memory = new FileMemory(() => Promise.reject(Object.assign(new Error('disk'), { code: 'EIO', syscall: `read ${++reads}` })));
  expect(await memory.read(path, folder)).toEqual({ refused: 'file cannot be read (EIO)' });
  await memory.read(path, folder);
  expect(reads).toBe(2);
});

test('a bug while reading is not taken for a fault of the file', async () => {
  const memory = new FileMemory(() => Promise.reject(new TypeError('bug')));
  await expect(memory.read(path, folder)).rejects.toThrow('bug');
});
