// What a claim needs before it can run: its model version, and its inputs decoded.
import type { ModelRepository, ModelVersion } from '@millrace/models';
import { type Logger, traceField } from '@millrace/process';
import { fromWireAll, MillraceError, type ModelVersionId, predictionId, type Tensors, versionName } from '@millrace/protocol';
import type { Claim, Payloads } from '@millrace/queue';
import type { Progress } from './held-bundle.ts';

export interface ClaimReaderOptions {
  readonly repository: ModelRepository;
  readonly payloads: Payloads;
  readonly log: Logger;
}

export class ClaimReader {
  readonly #options: ClaimReaderOptions;

  constructor(options: ClaimReaderOptions) {
    this.#options = options;
  }

  /** The version that a job names, proven by its digest; looks again where the repository may just have changed. */
  async version(model: ModelVersionId): Promise<ModelVersion | MillraceError> {
    const { repository } = this.#options;
    // A scan that is under way may have begun before the change.
    for (let looks = 0; looks < 2 && repository.find(model)?.id.digest !== model.digest; looks++) await repository.scan();
    const found = repository.find(model);
    const name = versionName(model);
    if (!found) return new MillraceError('model-unavailable', `${name} is not in this worker’s repository`);
    if (found.id.digest !== model.digest) return new MillraceError('model-changed', `${name} is another file here than the one that the API read`);
    return found;
  }

  async inputs({ bundleId }: Claim, { index, prediction }: Progress): Promise<Tensors | MillraceError> {
    const payload = prediction.detached ? await this.#options.payloads.read(bundleId, index) : undefined;
    if (prediction.detached && !payload) return new MillraceError('payload-lost', 'The inputs are not kept any more');
    try {
      return fromWireAll(prediction.inputs, payload);
    } catch (error) {
      this.#options.log.error({ err: error, predictionId: predictionId(bundleId, index), ...traceField(prediction.trace) }, 'inputs cannot be decoded');
      return new MillraceError('internal', 'The inputs cannot be decoded');
    }
  }
}
