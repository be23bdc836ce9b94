// A tenant's backfills: checking what is asked for, as far as that can be told before the input is opened; making and reading
// them; asking something of them.
import { checkDescription, checkPlaces, checkUris } from '@millrace/backfill/description';
import { type PlaceSettings, placesOf } from '@millrace/backfill/settings';
import type { ModelRepository, ModelVersion } from '@millrace/models';
import {
  attempts, type BackfillRecord, type BackfillRequest, type BackfillSpec, type BackfillWish, type ErrorCode, type FaultList, MillraceError,
  newBackfillId, type PinnedModel, priorities,
} from '@millrace/protocol';
import { type BackfillPageOf, type BackfillQuery, type BackfillStore, type IdempotencyKeys, rethrowUnavailable, type Reservation } from '@millrace/queue';
import { soundMembers } from './form.ts';
import type { Targets } from './targets.ts';

export interface BackfillsOptions {
  readonly store: BackfillStore;
  readonly idempotency: IdempotencyKeys;
  readonly repository: ModelRepository;
  readonly places: PlaceSettings;
  readonly targets: Targets;
}

export interface Made {
  readonly record: BackfillRecord;
  /** True where an earlier submission with its idempotency key had made it. */
  readonly replayed: boolean;
}

/** All of it may throw `queue-unavailable`; what takes an id, `not-found`. */
export class Backfills {
  readonly #options: BackfillsOptions;

  constructor(options: BackfillsOptions) {
    this.#options = options;
  }

  /**
   * `faults`: what was found before in a request that may not have the schema's form. Throws `backfills-off`, `idempotency-mismatch`,
   * and `unknown-model`, `place-not-allowed` or `invalid-backfill` with every fault.
   */
  async create(request: Partial<BackfillRequest>, tenant: string, faults: FaultList, reservation?: Reservation): Promise<Made> {
    await this.#options.targets.check(request.webhook?.url, faults, '#/webhook/url');
    const spec = this.#specOf(request, tenant, faults);
    if (!await this.#options.store.hasCoordinator().catch(rethrowUnavailable)) {
      throw new MillraceError('backfills-off', 'No process here works on backfills: a dispatcher with a work folder does');
    }
    return this.#make(spec, tenant, reservation).catch(rethrowUnavailable);
  }

  async find(id: string, tenant: string): Promise<BackfillRecord> {
    const record = await this.#options.store.find(id, tenant).catch(rethrowUnavailable);
    if (!record) throw new MillraceError('not-found', 'There is no such backfill');
    return record;
  }

  /** One page of them, newest first. */
  async list(query: BackfillQuery): Promise<BackfillPageOf> {
    return this.#options.store.list(query).catch(rethrowUnavailable);
  }

  /** Asks for it; a coordinator sees to it. Throws `backfill-state` where its state does not allow it. */
  async ask(id: string, tenant: string, wish: BackfillWish): Promise<BackfillRecord> {
    const { progress: { state, rows: { failed } } } = await this.find(id, tenant);
    if (wish === 'retry' && state === 'completed' && failed === 0) throw new MillraceError('backfill-state', 'None of its rows failed: there is nothing to run again');
    return this.#options.store.wish(id, tenant, wish).catch(rethrowUnavailable);
  }

  async #make(spec: BackfillSpec, tenant: string, reservation: Reservation | undefined): Promise<Made> {
    const { store, idempotency } = this.#options;
    const createdAt = Date.now();
    const id = newBackfillId(createdAt);
    if (reservation) {
      const reserved = await idempotency.reserve(tenant, reservation, id);
      if (reserved.kind === 'mismatch') throw new MillraceError('idempotency-mismatch', 'This Idempotency-Key came before with another request');
      if (reserved.kind === 'taken') {
        const record = await idempotency.made(reserved, () => store.find(reserved.id, tenant));
        // Whoever tied the key to that id died before Redis had the backfill.
        return record ? { record, replayed: true } : this.#make(spec, tenant, { ...reservation, insteadOf: reserved.id });
      }
    }
    return { record: await store.create(tenant, spec, createdAt, id), replayed: false };
  }

  #specOf(request: Partial<BackfillRequest>, tenant: string, faults: FaultList): BackfillSpec {
    const wellFormed = soundMembers(request, faults);
    const version = this.#resolve(wellFormed.model);
    if (version instanceof MillraceError) faults.add('#/model', version.message);
    checkUris(wellFormed, faults);
    const named = soundMembers(wellFormed, faults);
    if (version && !(version instanceof MillraceError)) checkDescription(wellFormed, version.signature, faults);
    const others = faults.faults.length;
    checkPlaces(named, placesOf(tenant, this.#options.places), faults);
    if (version instanceof MillraceError) throw new MillraceError(version.code, version.message, { faults: faults.faults });
    if (!version || faults.faults.length > 0) throw invalid(others === 0 ? 'place-not-allowed' : 'invalid-backfill', faults, version);
    const { model: _model, max_attempts: maxAttempts = attempts.default, priority = priorities.default, chunk_rows: chunkRows, webhook, ...data } = request as BackfillRequest;
    return { model: pinned(version), data, maxAttempts, priority, ...(chunkRows !== undefined && { chunkRows }), ...(webhook && { webhook }) };
  }

  #resolve(model: string | undefined): ModelVersion | MillraceError | undefined {
    if (model === undefined) return undefined;
    try {
      return this.#options.repository.resolveText(model);
    } catch (error) {
      if (error instanceof MillraceError) return error;
      throw error;
    }
  }
}

function pinned({ id, signature, batched, manifest: { pool, labels } }: ModelVersion): PinnedModel {
  return { ...id, pool, batched, signature, labels };
}

function invalid(code: ErrorCode, { faults }: FaultList, version?: ModelVersion): MillraceError {
  const of = version ? ` for ${version.id.name}@${version.id.version}` : '';
  const count = faults.length === 1 ? 'one fault' : `${faults.length} faults`;
  return new MillraceError(code, `The backfill has ${count}${of}`, { faults });
}
