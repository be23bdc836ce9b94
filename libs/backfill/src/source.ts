// The files of an input: found, in the order of their names, told apart from later versions, and read as bytes.
import { createReadStream } from 'node:fs';
import { glob, stat } from 'node:fs/promises';
import { matchesGlob } from 'node:path';
import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { MillraceError } from '@millrace/protocol';
import { codeOf, piecesOf, storageFailure } from './disk.ts';
import type { Encoding } from './job.ts';
import type { ObjectName, ObjectStore } from './object-store.ts';
import { locate, type Places } from './places.ts';
import type { SourceFile } from './plan.ts';

export interface SourceOptions {
  readonly places: Places;
  /** Where `s3://` is read from. */
  readonly objects?: ObjectStore | undefined;
}

/** More are mostly a glob that took in too much. */
export const maxSourceFiles = 100_000;

/** The files that a URI or a glob means, sorted by name. Throws MillraceError where there is none, or one is empty. */
export async function findSource(uri: string, { places, objects }: SourceOptions): Promise<readonly SourceFile[]> {
  const location = places.input(uri);
  const files = location.kind === 'object'
    ? await findObjects(location, storeFor(uri, objects))
    : await findFiles(location.path, uri, places);
  if (files.length === 0) throw new MillraceError('invalid-backfill', `${uri}: there is no such file`, { faults: [{ pointer: '#/input/uri', detail: 'no file matches it' }] });
  if (files.length > maxSourceFiles) throw new MillraceError('invalid-backfill', `${uri} matches more than ${maxSourceFiles} files`);
  const empty = files.find(({ sizeBytes }) => sizeBytes === 0);
  if (empty) throw new MillraceError('unreadable-input', `${empty.uri} is empty`);
  return files.toSorted((a, b) => (a.uri < b.uri ? -1 : 1));
}

async function findFiles(path: string, uri: string, places: Places): Promise<SourceFile[]> {
  const literally = await describeFile(path);
  const paths = literally === undefined && isGlob(path) ? await Array.fromAsync(glob(path)) : [];
  const files: SourceFile[] = [];
  for (const found of literally === undefined ? paths : [path]) {
    const file = places.isInput(found) ? await describeFile(found) : undefined;
    if (!file) continue;
    await places.inputFile(found, uri);
    files.push(file);
  }
  return files;
}

async function describeFile(path: string): Promise<SourceFile | undefined> {
  try {
    const { size, mtimeNs, isFile } = await statOf(path);
    return isFile ? { uri: path, sizeBytes: size, version: String(mtimeNs) } : undefined;
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(codeOf(error))) return undefined;
    throw storageFailure(path, error);
  }
}

async function statOf(path: string): Promise<{ size: number; mtimeNs: bigint; isFile: boolean }> {
  const status = await stat(path, { bigint: true });
  return { size: Number(status.size), mtimeNs: status.mtimeNs, isFile: status.isFile() };
}

export function isGlob(path: string): boolean {
  return /[*?[{]/.test(path);
}

async function findObjects({ bucket, key }: ObjectName, objects: ObjectStore): Promise<SourceFile[]> {
  const prefix = isGlob(key) ? key.slice(0, key.search(/[*?[{]/)) : key;
  const found = await objects.list({ bucket, key: prefix });
  const files = found.filter((object) => object.key === key || (isGlob(key) && matchesGlob(object.key, key)));
  return files.map((object) => ({ uri: `s3://${bucket}/${object.key}`, sizeBytes: object.sizeBytes, version: object.etag }));
}

function storeFor(uri: string, objects: ObjectStore | undefined): ObjectStore {
  if (!objects) throw new MillraceError('invalid-backfill', `${uri}: no object store is configured`);
  return objects;
}

/** Throws MillraceError `input-changed` where the file is not the one that it was. */
export async function checkUnchanged(file: SourceFile, objects?: ObjectStore): Promise<void> {
  const location = locate(file.uri);
  const now = location.kind === 'object'
    ? await storeFor(file.uri, objects).describe(location)
    : await describeFile(location.path);
  if (!now) throw new MillraceError('input-changed', `${file.uri} is gone`);
  if (now.sizeBytes !== file.sizeBytes) throw new MillraceError('input-changed', `${file.uri} has ${now.sizeBytes} bytes, and had ${file.sizeBytes}`);
  if (('etag' in now ? now.etag : now.version) !== file.version) throw new MillraceError('input-changed', `${file.uri} was changed`);
}

export interface OpenOptions {
  readonly objects?: ObjectStore | undefined;
  readonly encoding?: Encoding;
  /** Where to begin, counted in what this gives. */
  readonly offset?: number;
  readonly signal?: AbortSignal | undefined;
  /** Told how many bytes of the file itself have been read. */
  readonly onRead?: (bytes: number) => void;
  /** Of one that stands in place: a piece is good until the next one is asked for. */
  readonly passing?: boolean;
}

/** Whether its bytes are what is read of it: then it can be read from any byte on. */
export function isPlain({ uri }: SourceFile, encoding: Encoding): boolean {
  return encoding === 'utf-8' && !uri.endsWith('.gz');
}

/** Whether a disk has them, too: then it need not be copied to be read in parts. */
export function standsInPlace(file: SourceFile, encoding: Encoding): boolean {
  return isPlain(file, encoding) && locate(file.uri).kind === 'file';
}

/** The file's bytes as UTF-8, decompressed where its name ends in `.gz`. */
export async function* openSource(file: SourceFile, { objects, encoding = 'utf-8', offset = 0, signal, onRead, passing = false }: OpenOptions = {}): AsyncGenerator<Uint8Array> {
  const zipped = file.uri.endsWith('.gz');
  const plain = isPlain(file, encoding);
  const start = plain ? offset : 0;
  const raw = counted(passing ? piecesOf(file.uri, { start, signal }) : rawBytes(file, start, objects, signal), onRead);
  const unzipped = zipped ? decompressed(raw) : raw;
  const bytes = encoding === 'utf-8' ? unzipped : transcoded(unzipped, encoding);
  yield* namingFile(skipped(bytes, plain ? 0 : offset), file);
}

const pieceBytes = 1024 * 1024;

function rawBytes(file: SourceFile, start: number, objects: ObjectStore | undefined, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  const location = locate(file.uri);
  return location.kind === 'object'
    ? storeFor(file.uri, objects).read(location, { start, etag: file.version, signal })
    : createReadStream(location.path, { start, highWaterMark: pieceBytes, ...(signal && { signal }) });
}

async function* counted(bytes: AsyncIterable<Uint8Array>, onRead: OpenOptions['onRead']): AsyncGenerator<Uint8Array> {
  for await (const piece of bytes) {
    onRead?.(piece.length);
    yield piece;
  }
}

/** What goes wrong in it is told to whoever reads it. */
function decompressed(bytes: AsyncIterable<Uint8Array>): AsyncIterable<Uint8Array> {
  const gunzip = createGunzip({ chunkSize: pieceBytes });
  pipeline(Readable.from(bytes, { objectMode: false }), gunzip, () => undefined);
  return gunzip;
}

async function* transcoded(bytes: AsyncIterable<Uint8Array>, encoding: Encoding): AsyncGenerator<Uint8Array> {
  const decoder = new TextDecoder(encoding === 'latin-1' ? 'windows-1252' : encoding);
  for await (const piece of bytes) yield Buffer.from(decoder.decode(piece, { stream: true }));
  yield Buffer.from(decoder.decode());
}

async function* skipped(bytes: AsyncIterable<Uint8Array>, count: number): AsyncGenerator<Uint8Array> {
  let left = count;
  for await (const piece of bytes) {
    if (left < piece.length) yield left === 0 ? piece : piece.subarray(left);
    left = Math.max(0, left - piece.length);
  }
}

/** Names the file in what can go wrong. */
async function* namingFile(bytes: AsyncIterable<Uint8Array>, file: SourceFile): AsyncGenerator<Uint8Array> {
  try {
    yield* bytes;
  } catch (error) {
    const code = codeOf(error);
    if (code.startsWith('Z_') || code === 'ERR_ENCODING_INVALID_ENCODED_DATA') {
      throw new MillraceError('unreadable-input', `${file.uri}: ${error instanceof Error ? error.message : code}`, { cause: error });
    }
    if (code === 'ENOENT') throw new MillraceError('input-changed', `${file.uri} is gone`, { cause: error });
    throw storageFailure(file.uri, error);
  }
}
