// What ONNX Runtime says about a failure, made fit to be shown to a caller.

const maxLength = 500;
/** Files of the machine or of the runtime's own build; node names (`/layers/0/MatMul`) have slashes too, but no such endings. */
const filePath = /(?:[A-Za-z]:)?(?:[\\/][^\s\\/:'"()]+)+\.(?:cc|cpp|cu|cuh|c|h|hpp|onnx|data|so[.\d]*|dylib|dll|node|m?[jt]s)(?::\d+)?/g;

/** The message of an error without paths, at most 500 characters. */
export function describeFailure(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  const text = message.replace(filePath, '').replace(/\s+/g, ' ').trim();
  return text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text;
}
