// Settings of a process: one schema per app with name, type, unit, default and meaning, read from the environment.
import Type, { type Static, type TObject, type TSchema } from 'typebox';
import Value from 'typebox/value';

/** Every fault of the environment at once; the message is for the person who started the process. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
}

/**
 * Reads the settings of `schema`. The setting `maxRows` is the variable `MILLRACE_MAX_ROWS`, or what its schema's `env`
 * says; an empty variable counts as absent. Throws `ConfigError`.
 */
export function readConfig<Schema extends TObject>(schema: Schema, env: Readonly<Record<string, string | undefined>>): Static<Schema> {
  const given: Record<string, unknown> = {};
  for (const [key, setting] of Object.entries(schema.properties)) {
    given[key] = env[variableOf(key, setting)] || undefined;
    if (given[key] === undefined) delete given[key];
  }
  const config = Value.Default(schema, Value.Convert(schema, given)) as Record<string, unknown>;
  const faults = Object.entries(schema.properties).flatMap(([key, setting]) => {
    if (config[key] === undefined) return Type.IsOptional(setting) ? [] : [`${variableOf(key, setting)}: expected ${expectationOf(setting)}, got nothing`];
    if (Value.Check(setting, config[key])) return [];
    const got = 'secret' in setting ? 'something else' : JSON.stringify(given[key]);
    return [`${variableOf(key, setting)}: expected ${expectationOf(setting)}, got ${got}`];
  });
  if (faults.length > 0) throw new ConfigError(`The settings cannot be used:\n  ${faults.join('\n  ')}`);
  return config as Static<Schema>;
}

/**
 * The settings of a process that starts: answers `--help` and exits, or reports unusable settings and exits with 2.
 */
export function startingConfig<Schema extends TObject>(title: string, schema: Schema, { argv, env }: Pick<NodeJS.Process, 'argv' | 'env'>): Static<Schema> {
  if (argv.includes('--help')) {
    process.stdout.write(`${title}. Settings come from the environment:\n\n${describeConfig(schema)}\n`);
    process.exit(0);
  }
  try {
    return readConfig(schema, env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`${error.message}\n`);
    process.exit(2);
  }
}

/** The settings as a table for `--help`: variable, meaning, default. */
function describeConfig(schema: TObject): string {
  return Object.entries(schema.properties).map(([key, setting]) => {
    const { description = '', default: preset } = setting as SettingSchema;
    return `  ${variableOf(key, setting).padEnd(34)} ${description}${preset === undefined ? '' : ` [${preset}]`}`;
  }).join('\n');
}

/** What the schemas of settings say of themselves. */
interface SettingSchema {
  readonly type?: string;
  readonly enum?: readonly string[];
  readonly minimum?: number;
  readonly maximum?: number;
  readonly pattern?: string;
  readonly description?: string;
  readonly default?: string | number | boolean;
}

function variableOf(key: string, setting: TSchema): string {
  if ('env' in setting) return String(setting.env);
  return `MILLRACE_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
}

function expectationOf(setting: TSchema): string {
  const { type = 'value', enum: choices, minimum, maximum, pattern, description } = setting as SettingSchema;
  const kind = choices ? `one of ${choices.join(', ')}` : type === 'integer' ? 'a whole number' : `a ${type}`;
  const range = [minimum !== undefined && `at least ${minimum}`, maximum !== undefined && `at most ${maximum}`, pattern !== undefined && `matching ${pattern}`];
  return [kind, ...range.filter(Boolean)].join(', ') + (description ? ` (${description})` : '');
}
