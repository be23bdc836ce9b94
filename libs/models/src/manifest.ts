// model.yaml: how a model is to be run. Every key may be left out.
import Type from 'typebox';
import Value from 'typebox/value';
import { isScalar, isSeq, parseDocument } from 'yaml';
import type { Document } from 'yaml';
import { aliasPattern, describe, maxFaults, poolPattern } from '@millrace/protocol';
import type { Manifest } from './model.ts';
import { ModelRefused } from './model-refused.ts';

const mostInstances = 64;

/** What a model without a model.yaml gets. As many sessions as a worker has threads: with fewer, some of them would stand idle. */
export const defaultManifest: Manifest = {
  pool: 'default',
  batching: { maxRows: 64, maxDelayMs: 0 },
  instances: mostInstances,
  threads: 1,
  executionProviders: ['cpu'],
  labels: [],
  aliases: {},
};

const closed = { additionalProperties: false };

function wholeNumber(minimum: number, maximum: number) {
  return Type.Optional(Type.Integer({ minimum, maximum, description: `a whole number from ${minimum} to ${maximum}` }));
}

/** References refuse two dots in a row, so an alias that has them could never be asked for. */
const usableAlias = `^(?!.*\\.\\.)${aliasPattern.slice(1)}`;

/** Redis keys of backfills and deliveries stand where those of pools of these names would (libs/queue/src/names.ts). */
const usablePool = `^(?!(?:backfills|deliveries)$)${poolPattern.slice(1)}`;

/** Descriptions are what a fault says was expected. */
const keys = {
  pool: Type.Optional(Type.String({ pattern: usablePool, description: 'a name of at most 31 letters a-z and digits, a letter first, and not backfills or deliveries' })),
  batching: Type.Optional(Type.Object(
    { max_rows: wholeNumber(1, 65_536), max_delay_ms: wholeNumber(0, 60_000) },
    { ...closed, description: 'a map of max_rows and max_delay_ms' },
  )),
  instances: wholeNumber(1, mostInstances),
  threads: wholeNumber(1, 256),
  execution_providers: Type.Optional(Type.Array(Type.String({ pattern: '^[a-z][a-z0-9_-]{0,30}$', description: 'a name such as cpu or cuda' }), {
    minItems: 1, uniqueItems: true, description: 'a list of at least one name, none twice',
  })),
  labels: Type.Optional(Type.Array(Type.String({ maxLength: 256, description: 'a text of at most 256 characters' }), {
    description: 'a list of texts',
  })),
  aliases: Type.Optional(Type.Record(Type.String({ pattern: usableAlias }), Type.Integer({
    minimum: 1, maximum: 999_999_999, description: 'a version number',
  }), { ...closed, description: 'a map of aliases (a-z, digits, single dots, _ and -, a letter first) to version numbers' })),
};
const description = `a map of ${Object.keys(keys).join(', ')}`;
const schema = Type.Object(keys, { ...closed, description });

/** Reads model.yaml. Throws one ModelRefused with the faults: where each is, what was expected there, what stands there. */
export function readManifest(text: string): Manifest {
  const written = parse(text);
  const faults = faultsOf(written);
  if (faults.length > 0) throw invalid(faults);
  const { batching, execution_providers: executionProviders, ...others } = written as Type.Static<typeof schema>;
  return {
    ...defaultManifest,
    ...others,
    ...(executionProviders && { executionProviders }),
    batching: {
      maxRows: batching?.max_rows ?? defaultManifest.batching.maxRows,
      maxDelayMs: batching?.max_delay_ms ?? defaultManifest.batching.maxDelayMs,
    },
  };
}

function invalid(faults: readonly string[]): ModelRefused {
  const different = [...new Set(faults)];
  const more = different.length - maxFaults;
  return new ModelRefused(`model.yaml is wrong: ${different.slice(0, maxFaults).join('; ')}${more > 0 ? `; and ${more} more` : ''}`);
}

/** The document as plain values; an empty one is an empty map. */
function parse(text: string): unknown {
  try {
    const document = parseDocument(text, { logLevel: 'error' });
    const faults = [...document.errors, ...document.warnings].map(({ message }) => firstLine(message));
    if (faults.length > 0) throw invalid(faults);
    keepLabelsAsWritten(document);
    // A few anchors are fine; a document that multiplies itself by them is not (the "billion laughs").
    return document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (error) {
    if (error instanceof ReferenceError || error instanceof RangeError) throw invalid([error.message]);
    throw error;
  }
}

/** Behind the first line comes a drawing of the place. */
function firstLine(message: string): string {
  return (message.split('\n')[0] as string).replace(/:$/, '');
}

/** YAML takes `007`, `1.0` and `true` for numbers and truths; a label is what its author wrote. */
function keepLabelsAsWritten(document: Document.Parsed): void {
  const labels = document.get('labels', true);
  if (!isSeq(labels)) return;
  for (const label of labels.items) {
    if (isScalar(label) && (typeof label.value === 'number' || typeof label.value === 'boolean')) {
      label.value = label.source ?? String(label.value);
    }
  }
}

/** Key by key, because TypeBox stops after the eighth fault of one check. */
function faultsOf(written: unknown): string[] {
  if (typeof written !== 'object' || written === null || Array.isArray(written)) {
    return [`expected ${description}, got ${describe(written)}`];
  }
  return Object.entries(written).flatMap(([key, value]) => faultsBelow({ [key]: value }));
}

function faultsBelow(written: object): string[] {
  return Value.Errors(schema, written)
    // An unknown key is reported twice: by its parent, and (as `boolean`) at its own place.
    .filter(({ keyword }) => keyword !== 'additionalProperties')
    .map(({ keyword, schemaPath, instancePath }) => {
      const where = instancePath.slice(1).replaceAll('/', '.');
      const expected = expectation(schemaPath);
      if (keyword === 'boolean') return `${where}: unknown key, expected ${expected}`;
      return `${where}: expected ${expected}, got ${describe(Value.Pointer.Get(written, instancePath))}`;
    });
}

/** The description that stands nearest to this place of the schema. */
function expectation(schemaPath: string): string {
  let place: unknown = schema;
  let nearest = '';
  for (const segment of schemaPath.split('/')) {
    if (segment !== '#') place = (place as Record<string, unknown>)[segment];
    if (typeof place !== 'object' || place === null) break;
    if ('description' in place) nearest = String(place.description);
  }
  return nearest;
}
