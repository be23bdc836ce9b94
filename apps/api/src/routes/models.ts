import type { Model as CatalogModel, ModelRepository } from '@millrace/models';
import { MillraceError, Model, ModelList, problemResponses } from '@millrace/protocol';
import Type from 'typebox';
import type { FastifyInstance } from 'fastify';

/** What can be run, and what its inputs look like. */
export function modelRoutes(app: FastifyInstance, { repository }: { repository: ModelRepository }): void {
  const config = { scope: 'models:read' } as const;

  app.get('/models', {
    config,
    schema: { tags: ['models'], summary: 'All models of the repository', response: { 200: ModelList } },
  }, () => ({ models: repository.models.map(presentModel) }));

  app.get<{ Params: { name: string } }>('/models/:name', {
    config,
    schema: {
      tags: ['models'],
      summary: 'One model: its versions, signatures, labels and aliases',
      params: Type.Object({ name: Type.String() }),
      response: { 200: Model, ...problemResponses('unknown-model') },
    },
  }, ({ params }) => {
    const model = repository.model(params.name);
    if (!model) throw new MillraceError('unknown-model', `There is no model "${params.name}"`);
    return presentModel(model);
  });
}

function presentModel({ name, manifest, versions, refused }: CatalogModel): Model {
  const ready = versions.map(({ id, sizeBytes, signature, batched }) => ({
    version: id.version, state: 'ready' as const, reason: null, sha256: id.digest, size_bytes: sizeBytes, batched,
    inputs: signature.inputs.map((spec) => ({ ...spec, shape: [...spec.shape] })),
    outputs: signature.outputs.map((spec) => ({ ...spec, shape: [...spec.shape] })),
  }));
  const unusable = refused.map(({ version, reason }) => ({
    version, state: 'refused' as const, reason, sha256: null, size_bytes: null, batched: null, inputs: [], outputs: [],
  }));
  return {
    name,
    pool: manifest.pool,
    default_version: versions[0]?.id.version ?? null,
    aliases: { ...manifest.aliases },
    labels: [...manifest.labels],
    batching: { max_rows: manifest.batching.maxRows, max_delay_ms: manifest.batching.maxDelayMs },
    versions: [...ready, ...unusable].sort((a, b) => b.version - a.version),
  };
}
