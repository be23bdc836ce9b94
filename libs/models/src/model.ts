// A model of the repository, in the words of the protocol.
import type { ModelVersionId, Signature } from '@millrace/protocol';

/** What model.yaml may say, with its defaults where it says nothing. */
export interface Manifest {
  /** The fleet that runs the model. */
  readonly pool: string;
  readonly batching: {
    /** A micro-batch has at most this many rows. */
    readonly maxRows: number;
    /** How long a micro-batch may be held back to fill up; 0 runs what is there. */
    readonly maxDelayMs: number;
  };
  /** Sessions of one version in one replica, each on an inference thread of its own. */
  readonly instances: number;
  /** Intra-op threads of one session. */
  readonly threads: number;
  /** ONNX Runtime execution providers in order of preference. */
  readonly executionProviders: readonly string[];
  /** Names of the classes, by index; empty where the model has none. */
  readonly labels: readonly string[];
  readonly aliases: Readonly<Record<string, number>>;
}

/** A version that can be run. */
export interface ModelVersion {
  readonly id: ModelVersionId;
  /** Absolute path of its model.onnx. */
  readonly path: string;
  readonly sizeBytes: number;
  readonly signature: Signature;
  /** Whether rows of many predictions are stacked into one run (see `isBatched`). */
  readonly batched: boolean;
  readonly manifest: Manifest;
}

/** A version that is there but cannot be run, and why. */
export interface RefusedVersion {
  readonly version: number;
  readonly reason: string;
}

export interface Model {
  readonly name: string;
  /** The defaults where its model.yaml is refused; then no version can be run. */
  readonly manifest: Manifest;
  /** Runnable versions, newest first. */
  readonly versions: readonly ModelVersion[];
  /** Newest first. */
  readonly refused: readonly RefusedVersion[];
}
