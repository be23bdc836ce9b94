// JSON pointers as URI fragments (RFC 6901 §6): `#/inputs/features/0/2`.

/** The pointer to a member or an element below another. */
export function below(pointer: string, key: string | number): string {
  const segment = typeof key === 'number' ? String(key) : key.replaceAll('~', '~0').replaceAll('/', '~1');
  return `${pointer}/${encodeURIComponent(segment)}`;
}
