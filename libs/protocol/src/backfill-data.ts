// What a backfill reads, what it writes, and how columns become a model's inputs: the data side of its description.
import Type, { type Static } from 'typebox';
import { closed } from './schema.ts';

export const backfillFormats = ['csv', 'ndjson', 'parquet'] as const;
export type BackfillFormat = (typeof backfillFormats)[number];

export const encodings = ['utf-8', 'utf-16le', 'latin-1'] as const;
export type Encoding = (typeof encodings)[number];

export const vectorForms = ['list', 'expanded'] as const;
export type VectorForm = (typeof vectorForms)[number];

const character = (description: string) => Type.Optional(Type.String({ pattern: '^[\\t\\x20-\\x7e]$', description }));
const column = Type.String({ minLength: 1, maxLength: 256 });

export const BackfillInput = Type.Object({
  uri: Type.String({ minLength: 1, maxLength: 2048, description: 'A file, or a glob of many (taken in the order of their names): a path, or `s3://bucket/key`', examples: ['/data/digits-*.csv.gz'] }),
  format: Type.Optional(Type.Enum([...backfillFormats], { description: 'From the name where it is left out' })),
  delimiter: character('CSV: a comma by default; a tab in files named `.tsv`'),
  quote: character('CSV: `"` by default'),
  escape: character('CSV: what makes a quote inside quotes plain; the quote itself by default'),
  header: Type.Optional(Type.Boolean({ description: 'CSV: whether the first row of each file names the columns, as by default; else they are `column0`, `column1`, …' })),
  encoding: Type.Optional(Type.Enum([...encodings], { description: 'CSV and NDJSON: `utf-8` by default' })),
  missing: Type.Optional(Type.Enum(['refuse', 'nan'], { description: 'What an empty or missing number means to a float input: a row that cannot be taken (the default), or NaN' })),
}, closed);
export type BackfillInput = Static<typeof BackfillInput>;

export const BackfillOutput = Type.Object({
  uri: Type.String({ minLength: 1, maxLength: 2048, description: 'The file to write: a path, or `s3://bucket/key`. Beside it stand `<name>.errors.ndjson`, where rows failed, and `<name>.manifest.json`' }),
  format: Type.Optional(Type.Enum([...backfillFormats], { description: 'From the name where it is left out' })),
  vectors: Type.Optional(Type.Enum([...vectorForms], { description: 'An output with several values a row as one column that holds lists (the default), or as columns `name_0`, `name_1`, … (the default of CSV)' })),
  overwrite: Type.Optional(Type.Boolean({ description: 'Whether files that are there already may be replaced' })),
}, closed);
export type BackfillOutput = Static<typeof BackfillOutput>;

/** Members of the API's body; those beside them are the model and how it is run. */
export const backfillMembers = {
  input: BackfillInput,
  output: BackfillOutput,
  mapping: Type.Optional(Type.Record(Type.String(), Type.Union([column, Type.Array(column, { minItems: 1, maxItems: 100_000 })]), {
    description: 'For each input of the model the column that holds it, or the columns that make it up. Where it is left out, columns named like the inputs; else, for a model with one input, all columns but the id and the carried ones. In NDJSON `a.b` is the member `b` of `a`',
  })),
  id_column: Type.Optional(Type.String({ minLength: 1, maxLength: 256, description: 'The column that tells the output’s rows apart. Where it is left out, the column `row` numbers them, from 1 over all files; in batch files it is `custom_id`' })),
  carry: Type.Optional(Type.Array(column, { uniqueItems: true, maxItems: 1000, description: 'Columns of the input that stand in the output too' })),
  max_error_ratio: Type.Optional(Type.Number({ minimum: 0, maximum: 1, description: 'The backfill fails where more of its rows fail than this' })),
} as const;

export const BackfillData = Type.Object(backfillMembers, closed);
export type BackfillData = Static<typeof BackfillData>;
