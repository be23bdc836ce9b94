// What lists and event streams can be narrowed to.
import Type from 'typebox';

export const ModelFilter = Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,127}(@[1-9][0-9]{0,8})?$', description: '`name` or `name@version`' });

/** What `ModelFilter` may say of a prediction or a backfill. */
export function namesOf({ model, version }: { readonly model: string; readonly version: number }): string[] {
  return [model, `${model}@${version}`];
}
