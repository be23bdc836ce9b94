// Files that are whole or not there: written beside their final name, made durable, then renamed.
import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { giveBack, MillraceError } from '@millrace/protocol';

/** Replaces what stands at `path`, if anything does. Throws MillraceError `storage-unavailable`. */
export async function writeAtomically(path: string, content: string): Promise<void> {
  const beside = besideOf(path);
  try {
    const file = await open(beside, 'w');
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined);
    throw storageFailure(path, error);
  }
}

/** A name in the same folder that no other writer on any machine takes; hidden, so that no glob finds it. */
export function besideOf(path: string): string {
  return path.replace(/[^/]*$/, (name) => `.${name}.${randomBytes(6).toString('hex')}.partial`);
}

/** Gives a finished file its final name, durably. */
export async function moveIntoPlace(from: string, to: string): Promise<void> {
  try {
    await syncFile(from);
    await rename(from, to);
    await syncFolder(dirname(to));
  } catch (error) {
    throw storageFailure(to, error);
  }
}

export async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** So that the new name outlives a power cut. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

export function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}

const reasons: Readonly<Record<string, string>> = {
  ENOSPC: 'the disk is full', EDQUOT: 'the disk quota is used up', EROFS: 'the file system is read-only', EFBIG: 'the file would be too large',
  EACCES: 'permission denied', EPERM: 'permission denied', ENOENT: 'there is no such file or folder', ENOTDIR: 'a part of the path is not a folder',
  EISDIR: 'it is a folder', EIO: 'the disk failed', EMFILE: 'too many files are open', ENAMETOOLONG: 'the name is too long',
};

/** The failure of a file operation, with the place; expected failures and aborts pass through. */
export function storageFailure(place: string, error: unknown): unknown {
  if (error instanceof MillraceError || (error instanceof Error && error.name === 'AbortError')) return error;
  const code = codeOf(error);
  return code === '' ? error : new MillraceError('storage-unavailable', `${place}: ${reasons[code] ?? code}`, { cause: error });
}

const pieceBytes = 1024 * 1024;

/**
 * The bytes of a file. A piece is good until the next one is asked for: one buffer serves for all, and is given back at the end.
 */
export async function* piecesOf(path: string, { start = 0, signal }: { readonly start?: number; readonly signal?: AbortSignal | undefined } = {}): AsyncGenerator<Uint8Array> {
  const file = await open(path, 'r');
  const buffer = Buffer.allocUnsafeSlow(pieceBytes);
  try {
    for (let position = start; ;) {
      signal?.throwIfAborted();
      const { bytesRead } = await file.read(buffer, 0, pieceBytes, position);
      if (bytesRead === 0) return;
      yield buffer.subarray(0, bytesRead);
      position += bytesRead;
    }
  } finally {
    giveBack(buffer);
    await file.close();
  }
}
