/** A model.onnx or model.yaml that cannot be served; the message says why, and what its owner can do about it. */
export class ModelRefused extends Error {
  override readonly name = 'ModelRefused';
}
