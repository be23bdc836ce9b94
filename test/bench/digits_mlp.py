"""Trains the model of `npm run bench -- backfill`: a multilayer perceptron of scikit-learn, 64-128-64-10, for digits.

Run it from the root of the project, in the virtual environment of deploy/models/train.py:

    /tmp/models-venv/bin/python test/bench/digits_mlp.py

It writes, below test/bench/models/digits-mlp:

    1/model.onnx    what Millrace runs
    weights.npz     the same weights, for pandas_way.py, which predicts with scikit-learn itself

and fails if the model is not accurate enough or if ONNX Runtime does not give what scikit-learn gives.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from skl2onnx.helpers.onnx_helper import select_model_inputs_outputs
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

FOLDER = Path(__file__).resolve().parent / "models" / "digits-mlp"
SEED = 0
OPSET = 18
IR_VERSION = 10  # not the newest, so that older runtimes load the file too


def export(model):
    """Probabilities alone: what pandas_way.py asks scikit-learn for."""
    exported = to_onnx(model, initial_types=[("image", FloatTensorType([None, 64]))], options={"zipmap": False}, target_opset=OPSET)
    exported = select_model_inputs_outputs(exported, "probabilities")
    exported.ir_version = IR_VERSION
    used = {name for node in exported.graph.node for name in node.input}
    for weights in [entry for entry in exported.graph.initializer if entry.name not in used]:
        exported.graph.initializer.remove(weights)
    (image,), (probabilities,) = exported.graph.input, exported.graph.output
    image.type.tensor_type.shape.dim[0].dim_param = "batch"
    probabilities.CopyFrom(helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]))
    versions = {entry.domain: entry.version for entry in exported.opset_import}  # skl2onnx lists one twice
    del exported.opset_import[:]
    exported.opset_import.extend(helper.make_opsetid(*entry) for entry in versions.items())
    onnx.checker.check_model(exported, full_check=True)
    return exported.SerializeToString(deterministic=True)


def main():
    x, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x.astype(np.float32), y, test_size=0.2, random_state=SEED, stratify=y)
    model = MLPClassifier((128, 64), random_state=SEED, max_iter=200).fit(train_x, train_y)
    accuracy = model.score(test_x, test_y)
    print(f"digits-mlp: test accuracy {accuracy:.4f}")
    assert accuracy >= 0.96

    onnx_bytes = export(model)
    runner = ort.InferenceSession(onnx_bytes, providers=["CPUExecutionProvider"])
    (probabilities,) = runner.run(None, {"image": test_x})
    np.testing.assert_allclose(probabilities, model.predict_proba(test_x), rtol=0, atol=1e-5)

    (FOLDER / "1").mkdir(parents=True, exist_ok=True)
    (FOLDER / "1" / "model.onnx").write_bytes(onnx_bytes)
    layers = {f"coefs_{i}": layer for i, layer in enumerate(model.coefs_)} | {f"intercepts_{i}": layer for i, layer in enumerate(model.intercepts_)}
    np.savez_compressed(FOLDER / "weights.npz", **{name: layer.astype(np.float32) for name, layer in layers.items()})


if __name__ == "__main__":
    main()
