// To be imported into a worker's process before anything else: each micro-batch then takes a while that is no CPU time, and
// blocks its inference thread meanwhile, as a run on an accelerator does.
import { InferenceSession } from 'onnxruntime-node';

const runMs = 100;
const never = new Int32Array(new SharedArrayBuffer(4));
// oxlint-disable-next-line typescript/unbound-method -- it is called with its session
const { run } = InferenceSession.prototype;

InferenceSession.prototype.run = function wait(this: InferenceSession, ...args: Parameters<typeof run>) {
  Atomics.wait(never, 0, 0, runMs);
  return run.apply(this, args);
};
