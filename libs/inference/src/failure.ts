// What ONNX Runtime says about a failure: its code, and its words made fit to be shown to a caller.
import type { ErrorCode } from '@millrace/protocol';

const maxLength = 500;
/** Files of the machine or of the runtime's own build; node names (`/layers/0/MatMul`) have slashes too, but no such endings. */
const filePath = /(?:[A-Za-z]:)?(?:[\\/][^\s\\/:'"()]+)+\.(?:cc|cpp|cu|cuh|c|h|hpp|onnx|data|so[.\d]*|dylib|dll|node|m?[jt]s)(?::\d+)?/g;

/** The message of an error without paths, at most 500 characters. */
export function describeFailure(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const text = message.replace(filePath, '').replace(/\s+/g, ' ').trim();
  return text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text;
}

/** As the CPU's arena, C++, CUDA and V8 say it. */
const noMemory = /failed to allocate memory|bad[_ ]alloc|out of memory|allocation failed/i;

/** `out-of-memory`, which may pass, or `model-failed`, which the inputs brought about. */
export function failureCode(error: unknown): ErrorCode {
  return noMemory.test(error instanceof Error ? error.message : String(error)) ? 'out-of-memory' : 'model-failed';
}
