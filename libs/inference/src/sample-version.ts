// For tests: the sample models and the fixtures, as their repositories give them.
import { readFile } from 'node:fs/promises';
import { ModelRepository } from '@millrace/models';
import type { ModelVersion } from '@millrace/models';
import { bytesOf } from '@millrace/protocol';
import type { NumericArray, NumericDtype, Tensor } from '@millrace/protocol';

const root = new URL('../../../', import.meta.url);
const samples = new ModelRepository(new URL('deploy/models', root).pathname);
const fixtures = new ModelRepository(new URL('test/fixtures/models', root).pathname);

type Changes = Partial<Omit<ModelVersion, 'manifest'>> & { readonly manifest?: Partial<ModelVersion['manifest']> };

/** `changes` overwrite what the file and the manifest say. */
export async function sampleVersion(name: string, { manifest, ...changes }: Changes = {}): Promise<ModelVersion> {
  const repository = ['iris', 'digits', 'digits-deep'].includes(name) ? samples : fixtures;
  if (repository.models.length === 0) await repository.scan();
  const version = repository.resolve({ name });
  return { ...version, manifest: { ...version.manifest, ...manifest }, ...changes };
}

export function tensorOf(dtype: NumericDtype, shape: readonly number[], numbers: NumericArray): Tensor {
  return { dtype, shape, data: bytesOf(numbers) };
}

/** What scikit-learn or PyTorch itself predicts. */
export async function expectedOf(name: string): Promise<{ rows: number[][]; outputs: Record<string, (number | number[])[]> }> {
  return JSON.parse(await readFile(new URL(`test/fixtures/expected/${name}.json`, root), 'utf8'));
}
