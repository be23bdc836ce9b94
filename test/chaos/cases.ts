// What the load asks for: inputs from a seed, each with the outputs of the direct computation.
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ModelRepository } from '@millrace/models';
import { runDirect } from '../integration/direct.ts';

export interface Case {
  readonly model: string;
  readonly inputs: Readonly<Record<string, unknown>>;
  readonly expected: Readonly<Record<string, unknown>>;
}

const casesPerModel = 100;

/** How often each model is asked for, and its inputs. None has more rows than a micro-batch: each runs in one piece. */
const models: Record<string, { readonly share: number; readonly inputs: (random: () => number, digits: number[][]) => Record<string, unknown> }> = {
  iris: { share: 0.58, inputs: (random) => ({ features: table(1 + upTo(2, random), 4, () => Math.fround(8 * random())) }) },
  digits: { share: 0.36, inputs: (random, digits) => ({ image: [digits[upTo(digits.length, random)]] }) },
  // About 20 ms of a core, and a whole micro-batch: long enough to be struck in.
  'digits-deep': { share: 0.05, inputs: (random, digits) => ({ image: Array.from({ length: 32 }, () => digits[upTo(digits.length, random)]) }) },
  // 80 kB as a tensor: it travels beside its bundle.
  'dynamic-width': { share: 0.01, inputs: (random) => ({ x: table(1, 20_000, () => upTo(10, random)) }) },
};

export class Cases {
  readonly #byModel: Readonly<Record<string, readonly Case[]>>;

  private constructor(byModel: Readonly<Record<string, readonly Case[]>>) {
    this.#byModel = byModel;
  }

  /** Runs each case directly. `digitsFile`: images of digits, one a line. */
  static async compute(folder: string, digitsFile: string, random: () => number): Promise<Cases> {
    const repository = new ModelRepository(folder, { onChange: () => {} });
    await repository.scan();
    const digits = (await readFile(digitsFile, 'utf8')).trim().split('\n').slice(1).map((line) => line.split(',').slice(0, 64).map(Number));
    const byModel: Record<string, Case[]> = {};
    for (const [model, { inputs }] of Object.entries(models)) {
      const signature = repository.model(model)?.versions[0]?.signature;
      if (!signature) throw new Error(`there is no model ${model} in ${path.resolve(folder)}`);
      byModel[model] = [];
      for (let count = 0; count < casesPerModel; count++) {
        const its = inputs(random, digits);
        byModel[model].push({ model, inputs: its, expected: await runDirect(folder, model, signature, its) });
      }
    }
    return new Cases(byModel);
  }

  draw(random: () => number): Case {
    let left = random();
    for (const [model, { share }] of Object.entries(models)) {
      left -= share;
      if (left < 0) return this.#of(model, random);
    }
    return this.#of('iris', random);
  }

  of(model: string): readonly Case[] {
    return this.#byModel[model] ?? [];
  }

  #of(model: string, random: () => number): Case {
    const cases = this.of(model);
    return cases[upTo(cases.length, random)] as Case;
  }
}

function upTo(count: number, random: () => number): number {
  return Math.floor(count * random());
}

function table(rows: number, columns: number, value: () => number): number[][] {
  return Array.from({ length: rows }, () => Array.from({ length: columns }, value));
}
