// `iris`, `iris@2`, `iris@champion`: how a request names what is to run.

/** Names are path segments of the model repository and labels of metrics. */
export const modelNamePattern = '^[a-z0-9][a-z0-9._-]{0,127}$';
/** Aliases start with a letter, so that they are never taken for a version. */
export const aliasPattern = '^[a-z][a-z0-9._-]{0,63}$';

const refPattern = /^([a-z0-9][a-z0-9._-]{0,127})(?:@(?:([1-9][0-9]{0,8})|([a-z][a-z0-9._-]{0,63})))?$/;
export const modelRefPattern = refPattern.source;

/** A model by name, and at most one of a version or an alias; neither means the newest version. */
export interface ModelRef {
  readonly name: string;
  readonly version?: number;
  readonly alias?: string;
}

/** Reads `name`, `name@version` or `name@alias`; undefined where it is none of them. */
export function parseModelRef(text: string): ModelRef | undefined {
  const match = refPattern.exec(text);
  if (!match || text.includes('..')) return undefined;
  const [, name = '', version, alias] = match;
  return { name, ...(version && { version: Number(version) }), ...(alias && { alias }) };
}
