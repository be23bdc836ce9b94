// To be imported into a worker's process before anything else: each micro-batch then takes a while that is no CPU time, and
// blocks its inference thread meanwhile, as a run on an accelerator does.
import { InferenceSession } from 'onnxruntime-node';

const runMs = 100;
const never = new Int32Array(new SharedArrayBuffer(4));
const create = InferenceSession.create.bind(InferenceSession);

Object.assign(InferenceSession, {
  create: async (...args: Parameters<typeof create>) => {
    const session = await create(...args);
    const run = session.run.bind(session);
    return Object.assign(session, {
      run: (feeds: InferenceSession.FeedsType) => {
        Atomics.wait(never, 0, 0, runMs);
        return run(feeds);
      },
    });
  },
});
