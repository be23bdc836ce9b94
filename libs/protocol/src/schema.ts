// Pieces of the public API's schemas.
import Type from 'typebox';

/** No members but those that are named. */
export const closed = { additionalProperties: false } as const;

/** Response members that may be null are not left out: a client can rely on the shape. */
export const orNull = (type: string, description: string, more: object = {}) => Type.Unsafe<string | number | null>({ type: [type, 'null'], description, ...more });
