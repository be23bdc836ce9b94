// What lists and event streams can be narrowed to.
import type { Head } from '@millrace/protocol';
import Type from 'typebox';

export const ModelFilter = Type.String({ pattern: '^[a-z0-9][a-z0-9._-]{0,127}(@[1-9][0-9]{0,8})?$', description: '`name` or `name@version`' });

/** What `ModelFilter` may say of a prediction. */
export function namesOf({ model, version }: Head): string[] {
  return [model, `${model}@${version}`];
}
