// What can be told of a backfill by its description alone. It is the entry of processes that neither open an input nor load
// DuckDB, and what everybody else looks at first.
import { isAbsolute } from 'node:path';
import { below, FaultList, MillraceError, printShape, type Signature } from '@millrace/protocol';
import { type BackfillData, type Format, formatOfName } from './job.ts';
import { countFault, hasRows, mapOutputs, rowShapeOf } from './mapping.ts';
import { locate, type Places } from './places.ts';
import { isGlob } from './source.ts';

/** Adds every fault that the signature and the names tell; members that are missing are the schema's matter. */
export function checkDescription({ input, output, mapping = {} }: Partial<BackfillData>, signature: Signature, faults: FaultList): void {
  // What a glob matches may tell it.
  if (input && !isGlob(input.uri)) formatOf(input, [input.uri], '#/input', faults);
  const outputFormat = output && formatOf(output, [output.uri], '#/output', faults);
  if (output && /\.gz$/i.test(output.uri)) faults.add('#/output/uri', 'outputs are not compressed: leave out ".gz"');
  checkRows(signature, faults);
  checkMapping(mapping, signature, faults);
  if (outputFormat) mapOutputs(signature, output, outputFormat, faults);
}

/** What the description says, or what all the names tell. */
export function formatOf({ uri, format }: { readonly uri: string; readonly format?: Format }, names: readonly string[], pointer: string, faults: FaultList): Format | undefined {
  const [told, ...others] = new Set(names.map(formatOfName));
  const known = format ?? (others.length === 0 ? told : undefined);
  if (!known) faults.add(`${pointer}/format`, `${uri} does not tell its format: say csv, ndjson or parquet`);
  return known;
}

/** Adds a fault for each name that lies outside the places; links are followed where the files are opened. */
export function checkPlaces({ input, output }: Partial<Pick<BackfillData, 'input' | 'output'>>, places: Places, faults: FaultList): void {
  if (input) faultOf(() => places.input(input.uri), '#/input/uri', faults);
  if (output) faultOf(() => places.outputName(output.uri), '#/output/uri', faults);
}

/** Adds a fault for each name that is none, or that means something else in every process. */
export function checkUris({ input, output }: Partial<Pick<BackfillData, 'input' | 'output'>>, faults: FaultList): void {
  for (const [pointer, uri] of [['#/input/uri', input?.uri], ['#/output/uri', output?.uri]] as const) {
    if (uri === undefined) continue;
    faultOf(() => locate(uri), pointer, faults);
    if (!isAbsolute(uri) && !/^[a-z][a-z0-9+.-]*:\/\//i.test(uri)) faults.add(pointer, `${uri} is not a whole path: it begins with a slash, or is s3://bucket/key`);
  }
}

/** Rows run one by one or stacked. */
function checkRows({ inputs }: Signature, faults: FaultList): void {
  for (const spec of inputs) {
    if (!hasRows(spec)) faults.add('#/model', `its input "${spec.name}" has shape ${printShape(spec.shape)}: the model cannot run row by row`);
  }
}

function checkMapping(mapping: NonNullable<BackfillData['mapping']>, { inputs }: Signature, faults: FaultList): void {
  for (const [name, columns] of Object.entries(mapping)) {
    const spec = inputs.find((input) => input.name === name);
    const pointer = below('#/mapping', name);
    if (!spec) {
      faults.add(pointer, `the model has no such input: it has ${inputs.map((input) => `"${input.name}"`).join(', ')}`);
    } else if (Array.isArray(columns) && spec.shape.length > 0) {
      const fault = countFault(spec, rowShapeOf(spec), columns.length);
      if (fault !== undefined) faults.add(pointer, fault);
    }
  }
}

function faultOf(check: () => unknown, pointer: string, faults: FaultList): void {
  try {
    check();
  } catch (error) {
    if (!(error instanceof MillraceError)) throw error;
    faults.add(pointer, error.message);
  }
}
