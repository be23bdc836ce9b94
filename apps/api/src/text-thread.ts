// The thread that makes the texts of large predictions.
import { presentPrediction } from '@millrace/protocol';
import type { TextTask } from './texts.ts';

export default function textOf(task: TextTask): string {
  return JSON.stringify(presentPrediction(...task));
}
