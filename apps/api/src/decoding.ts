// Compressed bodies, and how much of a body is read: what grows too large is refused while it grows.
import { Transform, type TransformCallback } from 'node:stream';
import { constants, createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import { MillraceError } from '@millrace/protocol';
import type { FastifyInstance, RequestPayload } from 'fastify';

const decoders = {
  gzip: createGunzip,
  br: createBrotliDecompress,
  deflate: createInflate,
  // 8 MiB, the window that every decoder should take (RFC 8878 §3.1.1.1.2); by default a few bytes could claim 128 MiB.
  zstd: () => createZstdDecompress({ params: { [constants.ZSTD_d_windowLogMax]: 23 } }),
};
type Encoding = keyof typeof decoders;

/** Bodies of tensors shrink to a tenth or so; what shrinks more than this is made to hurt. */
const maxRatio = 100;
/** So little may have any ratio: it does no harm. */
const harmlessBytes = 64 * 1024;

/** Decompresses bodies, and holds them to the server's limit and to that of the key. */
export function readBodiesWithin(app: FastifyInstance, bodyLimitBytes: number): void {
  app.addHook('preParsing', ({ headers, caller }, reply, payload, done) => {
    const { 'content-encoding': named, 'content-length': length, 'transfer-encoding': chunked } = headers;
    const ofKey = caller.limits?.bodyBytes;
    if ((named === undefined && ofKey === undefined) || (length === undefined && chunked === undefined)) return done(null, payload);
    const limit = Math.min(bodyLimitBytes, ofKey ?? Infinity);
    if (Number(length) > limit) return done(tooLarge(limit));
    const encoding = named?.toLowerCase() ?? 'identity';
    // Node reads no more of a body than its Content-Length says.
    if (encoding === 'identity') return done(null, chunked === undefined ? payload : guarded(payload, undefined, limit));
    if (isEncoding(encoding)) return done(null, guarded(payload, encoding, limit));
    const known = Object.keys(decoders).join(', ');
    void reply.header('accept-encoding', known);
    return done(new MillraceError('unsupported-media-type', `The body may be encoded as one of ${known}, or not at all`));
  });
}

function isEncoding(name: string): name is Encoding {
  return Object.hasOwn(decoders, name);
}

function tooLarge(limit: number): MillraceError {
  return new MillraceError('payload-too-large', `The body is larger than ${limit} bytes`);
}

/** What is in the payload, as far as it keeps within its bounds. Fails with a `MillraceError`, and then reads no further. */
function guarded(payload: RequestPayload, encoding: Encoding | undefined, limit: number): Guard {
  const guard = new Guard(limit, encoding !== undefined);
  // Nobody may be reading, where the request is refused for another reason.
  guard.on('error', () => {});
  const decoder = encoding && decoders[encoding]();
  payload.on('data', (chunk: Buffer) => { guard.receivedEncodedLength += chunk.length; });
  // `pipeline` would destroy the request with the rest, and with it the connection that the answer goes over.
  payload.on('error', (error) => guard.destroy(error));
  decoder?.on('error', ({ message }) => guard.destroy(new MillraceError('malformed-request', `The body is not ${encoding}: ${message}`)));
  guard.on('close', () => {
    payload.unpipe();
    payload.resume();
    decoder?.destroy();
  });
  (decoder ? payload.pipe(decoder) : payload).pipe(guard);
  return guard;
}

class Guard extends Transform {
  /** Fastify compares it with Content-Length. */
  receivedEncodedLength = 0;
  readonly #limit: number;
  readonly #decodes: boolean;
  #bytes = 0;

  constructor(limit: number, decodes: boolean) {
    super();
    this.#limit = limit;
    this.#decodes = decodes;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#limit) return done(tooLarge(this.#limit));
    if (this.#decodes && this.#bytes > harmlessBytes && this.#bytes > maxRatio * this.receivedEncodedLength) {
      return done(new MillraceError('payload-too-large', `The body grows to more than ${maxRatio} times its size when it is decompressed`));
    }
    done(null, chunk);
  }
}
