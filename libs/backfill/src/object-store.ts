// Objects in S3 or anything that speaks its protocol. An object is there whole or not at all, so writing one is atomic.
import { open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { setTimeout as wait } from 'node:timers/promises';
import { S3Client, S3Errors } from '@bradenmacdonald/s3-lite-client';
import { MillraceError } from '@millrace/protocol';

export interface ObjectStoreOptions {
  /** `https://host[:port]`, without a bucket. */
  readonly endpoint: string;
  readonly region: string;
  /** Left out for buckets that everybody may read. */
  readonly accessKey?: string;
  readonly secretKey?: string;
  readonly sessionToken?: string;
  /** `endpoint/bucket/key`, as most servers but Amazon's want it, by default. */
  readonly pathStyle?: boolean;
}

export interface ObjectName {
  readonly bucket: string;
  readonly key: string;
}

export interface ObjectDescription {
  readonly key: string;
  readonly sizeBytes: number;
  readonly etag: string;
}

export interface ReadOptions {
  /** The first byte. */
  readonly start?: number;
  /** Fails with `input-changed` where the object's is another. */
  readonly etag?: string;
  readonly signal?: AbortSignal | undefined;
}

const attempts = 6;
const firstDelayMs = 200;
/** 10,000 parts of it make 160 GiB; at most four are in memory at a time. */
const partBytes = 16 * 1024 * 1024;
/** So much is read with one request, and held in memory. */
const rangeBytes = 8 * 1024 * 1024;
/** And handed on in these, so that who counts bytes counts them when they are used. */
const pieceBytes = 256 * 1024;

/** Tries again what may pass by itself. Throws MillraceError `storage-unavailable`. */
export class ObjectStore {
  readonly #client: S3Client;

  constructor({ endpoint, region, accessKey, secretKey, sessionToken, pathStyle = true }: ObjectStoreOptions) {
    this.#client = new S3Client({
      endPoint: endpoint, region, pathStyle,
      ...(accessKey !== undefined && { accessKey }), ...(secretKey !== undefined && { secretKey }), ...(sessionToken !== undefined && { sessionToken }),
    });
  }

  /** All objects whose keys begin with `key`, by key. */
  async list(prefix: ObjectName): Promise<ObjectDescription[]> {
    const found = await persist(prefix, (bucketName) => Array.fromAsync(this.#client.listObjects({ bucketName, prefix: prefix.key })));
    return found.map(({ key, size, etag }) => ({ key, sizeBytes: size, etag }));
  }

  /** Undefined where there is no such object. */
  async describe(name: ObjectName): Promise<ObjectDescription | undefined> {
    const found = await persist(name, (bucketName) => unlessMissing(this.#client.statObject(name.key, { bucketName })));
    return found && { key: name.key, sizeBytes: found.size, etag: found.etag };
  }

  /**
   * In ranges, each fetched as a whole: whoever reads takes their time, and no server keeps a connection open for so long
   * (where it closes one that is read slowly, the fetch of Node 24 fails an assertion that nobody can catch, undici's issue 5360).
   */
  async* read(name: ObjectName, { start = 0, etag, signal }: ReadOptions = {}): AsyncGenerator<Uint8Array> {
    let match = etag === undefined ? null : `"${etag}"`;
    let size = Infinity;
    for (let at = start; at < size;) {
      const range = await persist(name, () => this.#readRange(name, at, match)).catch((error: unknown) => {
        // There is nothing from there on: it is empty, or was read to its end before.
        if (at === start && statusOf(error) === 416) return undefined;
        throw etag === undefined ? error : changedOr(error, name);
      });
      if (!range) return;
      const { bytes } = range;
      for (let from = 0; from < bytes.length; from += pieceBytes) {
        signal?.throwIfAborted();
        yield bytes.subarray(from, from + pieceBytes);
      }
      at += bytes.length;
      ({ size, etag: match } = range);
    }
  }

  /** From `start` on, and how large the whole object is. `match`: the entity tag that it must have. */
  async #readRange({ bucket, key }: ObjectName, start: number, match: string | null): Promise<{ bytes: Uint8Array; size: number; etag: string | null }> {
    const headers = new Headers({ range: `bytes=${start}-${start + rangeBytes - 1}` });
    if (match !== null) headers.set('if-match', match);
    const response = await this.#client.makeRequest({ method: 'GET', bucketName: bucket, objectName: key, headers, statusCode: 206, returnBody: true });
    const encoding = response.headers.get('content-encoding') ?? '';
    // Fetch decodes them, and cannot where the beginning is missing.
    if (/gzip|deflate|br|zstd/.test(encoding)) {
      await response.body?.cancel();
      throw new MillraceError('unreadable-input', `${uriOf({ bucket, key })} is stored with Content-Encoding ${encoding}; store it without, and compressed text with a name that ends in .gz`);
    }
    const range = response.headers.get('content-range') ?? '';
    const [, size] = /\/(\d+)$/.exec(range) ?? [];
    if (size === undefined) throw new Error(`the store does not tell how large it is, with Content-Range ${range}`);
    return { bytes: await response.bytes(), size: Number(size), etag: response.headers.get('etag') };
  }

  /** Undefined where there is no such object. */
  async readText(name: ObjectName): Promise<string | undefined> {
    return persist(name, async (bucketName) => (await unlessMissing(this.#client.getObject(name.key, { bucketName })))?.text());
  }

  async writeText(name: ObjectName, text: string): Promise<void> {
    await persist(name, (bucketName) => this.#client.putObject(name.key, text, { bucketName }));
  }

  /** False where the key is taken (a conditional write). */
  async writeFirst(name: ObjectName, text: string): Promise<boolean> {
    return persist(name, async (bucketName) => {
      try {
        await this.#client.makeRequest({ method: 'PUT', bucketName, objectName: name.key, headers: new Headers({ 'if-none-match': '*' }), payload: text });
        return true;
      } catch (error) {
        // 409: somebody else's conditional write was under way; theirs counts.
        if (error instanceof S3Errors.ServerError && [409, 412].includes(error.statusCode)) return false;
        throw error;
      }
    });
  }

  /** Uploads a local file, in parts where it is large. */
  async writeFile(name: ObjectName, path: string): Promise<void> {
    await persist(name, async (bucketName) => {
      const file = await open(path, 'r');
      try {
        const { size } = await file.stat();
        const body = Readable.toWeb(file.createReadStream({ highWaterMark: 1024 * 1024, autoClose: false }));
        await this.#client.putObject(name.key, body as ReadableStream<Uint8Array<ArrayBuffer>>, { bucketName, size, partSize: Math.max(partBytes, Math.ceil(size / 9_000)) });
      } finally {
        await file.close();
      }
    });
  }

  async remove(name: ObjectName): Promise<void> {
    await persist(name, (bucketName) => unlessMissing(this.#client.deleteObject(name.key, { bucketName })));
  }
}

function uriOf({ bucket, key }: ObjectName): string {
  return `s3://${bucket}/${key}`;
}

async function unlessMissing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof S3Errors.ServerError && error.statusCode === 404) return undefined;
    throw error;
  }
}

/** Network failures, and what the server says of itself, pass; what it says of the request does not. */
async function persist<T>(name: ObjectName, request: (bucketName: string) => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await request(name.bucket);
    } catch (error) {
      if (error instanceof MillraceError) throw error;
      const passing = !(error instanceof S3Errors.S3Error) || (error instanceof S3Errors.ServerError && (error.statusCode >= 500 || error.statusCode === 429));
      if (!passing || attempt >= attempts || isLocal(error)) throw unavailable(name, error);
      await wait(firstDelayMs * 2 ** (attempt - 1) * (0.5 + Math.random() / 2));
    }
  }
}

/** An object that was described before, and is gone or has another etag. */
function changedOr(error: unknown, name: ObjectName): unknown {
  const status = statusOf(error);
  if (status !== 404 && status !== 412) return error;
  return new MillraceError('input-changed', `${uriOf(name)} ${status === 404 ? 'is gone' : 'was changed'}`, { cause: error });
}

/** What the server has answered. */
function statusOf(error: unknown): number | undefined {
  return error instanceof MillraceError && error.cause instanceof S3Errors.ServerError ? error.cause.statusCode : undefined;
}

function isLocal(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && 'path' in error;
}

function unavailable(name: ObjectName, error: unknown): MillraceError {
  const reason = error instanceof S3Errors.ServerError ? (error.statusCode === 404 ? 'there is no such object or bucket' : `${error.code} (${error.statusCode})`) : reasonOf(error);
  return new MillraceError('storage-unavailable', `${uriOf(name)}: ${reason}`, { cause: error });
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'failed';
  return error.cause instanceof Error && error.cause.message !== '' ? error.cause.message : error.message;
}
