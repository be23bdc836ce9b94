// JSON pointers as URI fragments (RFC 6901 §6): `#/inputs/features/0/2`.

/** The pointer to a member or an element below another. */
export function below(pointer: string, key: string | number): string {
  if (typeof key === 'number') return `${pointer}/${key}`;
  return `${pointer}/${encodeURIComponent(key.toWellFormed().replaceAll('~', '~0').replaceAll('/', '~1'))}`;
}
