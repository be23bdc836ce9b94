// What the main thread and an inference thread say to each other.
// Messages stay flat and few, because each is cloned; tensors' bytes are transferred.
import type { ErrorCode, Tensor } from '@millrace/protocol';

export type NamedTensor = Tensor & { readonly name: string };

export interface LoadRequest {
  readonly type: 'load';
  readonly key: string;
  readonly path: string;
  /** SHA-256 of the file, hex. */
  readonly digest: string;
  readonly threads: number;
  readonly executionProviders: readonly string[];
  readonly batched: boolean;
}

export interface RunRequest {
  readonly type: 'run';
  readonly key: string;
  /** Rows of each item, in order; the inputs hold their sum along the first dimension. */
  readonly rows: readonly number[];
  readonly inputs: readonly NamedTensor[];
}

export interface ReleaseRequest {
  readonly type: 'release';
  readonly key: string;
}

export type Request =
  | { readonly type: 'hello' }
  | LoadRequest
  | RunRequest
  | ReleaseRequest
  | { readonly type: 'stop' };

/** Something an operator should know though the work went on. */
export interface Warning {
  readonly message: string;
  readonly detail?: string;
}

export type LoadReply =
  | {
    readonly ok: true;
    readonly loadMs: number;
    /** The execution providers that the session was made with, in order of preference. */
    readonly providers: readonly string[];
    readonly batched: boolean;
    readonly warnings: readonly Warning[];
  }
  | { readonly ok: false; readonly code: ErrorCode; readonly detail: string };

/** Neighbouring items of a micro-batch that shared one `session.run`, or one item that failed alone. */
export type Segment =
  | {
    readonly ok: true;
    readonly items: number;
    readonly rows: number;
    readonly inferenceMs: number;
    readonly outputs: readonly NamedTensor[];
  }
  | { readonly ok: false; readonly items: 1; readonly code: ErrorCode; readonly detail: string };

export interface RunReply {
  readonly segments: readonly Segment[];
  readonly warnings: readonly Warning[];
}
