import { expect, test } from 'vitest';
import { describeFailure } from './failure.ts';

test('describeFailure leaves out files, keeps names of nodes, and is short', () => {
  const error = new Error("Exception during initialization: /onnxruntime_src/onnxruntime/core/graph/model.cc:149 Load /srv/models/iris/1/model.onnx failed at Name:'/layers/0/MatMul'");
  expect(describeFailure(error)).toBe("Exception during initialization: Load failed at Name:'/layers/0/MatMul'");
  expect(describeFailure(new Error('C:\\build\\ort\\env.h:12 broke'))).toBe('broke');
  expect(describeFailure('x'.repeat(2000))).toHaveLength(500);
});
