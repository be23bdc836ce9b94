// `millrace predict MODEL [INPUTS]`: one prediction, from the command line, a file or standard input.
import { readFile } from 'node:fs/promises';
import type { OutputFormat } from '@millrace/protocol';
import { Client } from '../client.ts';

export interface PredictOptions {
  readonly url: string;
  readonly key?: string;
  readonly file?: string;
  readonly wait: number;
  readonly format?: OutputFormat;
  readonly json?: boolean;
}

/** Prints the outputs (or the whole prediction with `json`); true where it succeeded. */
export async function predict(model: string, inputs: string | undefined, { url, key, file, wait, format, json }: PredictOptions): Promise<boolean> {
  const text = inputs ?? (file === undefined || file === '-' ? await readAll(process.stdin) : await readFile(file, 'utf8'));
  const prediction = await new Client(url, key).predict({ model, inputs: JSON.parse(text), ...(format && { parameters: { format } }) }, wait);
  const { status, outputs, labels, error } = prediction;
  const shown = json ? prediction : { status, ...(labels && { labels }), ...(error ? { error } : { outputs }) };
  process.stdout.write(`${JSON.stringify(shown, null, json ? 2 : undefined)}\n`);
  return status === 'succeeded';
}

async function readAll(stream: NodeJS.ReadStream): Promise<string> {
  let text = '';
  for await (const part of stream.setEncoding('utf8')) text += String(part);
  return text;
}
