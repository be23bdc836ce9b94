"""Trains the three sample models and writes them into this model repository.

Run it from the root of the project, in a virtual environment of its own:

    python3 -m venv /tmp/models-venv
    /tmp/models-venv/bin/pip install -r deploy/models/requirements.txt
    /tmp/models-venv/bin/python deploy/models/train.py

With names after it, such as digits-deep, it trains only those models. It needs no
GPU and takes a few minutes on two cores. It writes

    deploy/models/<name>/1/model.onnx   iris, digits, digits-deep
    deploy/data/digits-test.csv         the digits rows that no model has seen
    test/fixtures/expected/<name>.json  what scikit-learn or PyTorch itself predicts

and fails if a model is not accurate enough or if ONNX Runtime does not give
what the training framework gives. The model.yaml files are kept by hand; the
batching table printed at the end is where max_rows of digits-deep comes from.
"""

import argparse
import io
import json
import logging
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.nn import functional as F

MODELS = Path(__file__).resolve().parent
ROOT = MODELS.parent.parent
SEED = 0
OPSET = 18
IR_VERSION = 10  # not the newest, so that older runtimes load the files too


def session(path, threads=0):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def write_model(name, model):
    """Writes the model as one file, with the same named batch dimension everywhere."""
    model.ir_version = IR_VERSION
    # Exporters note source lines of the machine they ran on: nobody needs them.
    del model.metadata_props[:], model.graph.metadata_props[:], model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    for part in [*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer]:
        part.doc_string = ""
        del part.metadata_props[:]
    versions = {entry.domain: entry.version for entry in model.opset_import}  # skl2onnx lists one twice
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in versions.items())
    for value in [*model.graph.input, *model.graph.output]:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    onnx.checker.check_model(model, full_check=True)

    path = MODELS / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    print(f"{name}: {path.stat().st_size:,} bytes")
    return path


def verify(path, rows, outputs):
    """Stops when ONNX Runtime, in one batch or row by row, is off the framework's own prediction."""
    runner = session(path)
    (entry,) = runner.get_inputs()
    names = list(outputs)
    whole = runner.run(names, {entry.name: rows})
    single = zip(*(runner.run(names, {entry.name: rows[i : i + 1]}) for i in range(len(rows))))
    for got in (whole, [np.concatenate(parts) for parts in single]):
        for name, value in zip(names, got):
            np.testing.assert_allclose(value, outputs[name], rtol=0, atol=1e-5, err_msg=name)


def write_expected(name, rows, outputs):
    def lines(array):
        # 9 significant digits are what it takes to give a float32 back exactly.
        if array.dtype.kind == "f":
            array = np.vectorize(lambda value: float(f"{value:.9g}"), otypes=[float])(array)
        values = array.tolist()
        if array.ndim == 1:
            return json.dumps(values, separators=(",", ":"))
        return "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in values) + "\n]"

    body = ",\n".join(f'"{key}": {lines(value)}' for key, value in outputs.items())
    path = ROOT / "test" / "fixtures" / "expected" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"model": "{name}",\n"rows": {lines(rows)},\n"outputs": {{\n{body}\n}}}}\n')


def iris():
    x, y = load_iris(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x, y, test_size=0.2, random_state=SEED, stratify=y)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train_x, train_y)

    # The model reads float32, so the reference has to see the same rounded values.
    rows = test_x.astype(np.float32)
    outputs = {"label": model.predict(rows), "probabilities": model.predict_proba(rows).astype(np.float32)}
    print(f"iris: test accuracy {np.mean(outputs['label'] == test_y):.4f}")

    # zipmap would wrap the probabilities in a list of dictionaries, which is not a tensor.
    exported = to_onnx(
        model,
        initial_types=[("features", FloatTensorType([None, 4]))],
        options={"zipmap": False},
        target_opset=OPSET,
    )
    verify(write_model("iris", exported), rows, outputs)
    write_expected("iris", test_x, outputs)


class Digits(nn.Module):
    """Raw pixels 0..16, one row of 64, in; ten probabilities out."""

    def forward(self, image):
        return F.softmax(self.layers(image.reshape(-1, 1, 8, 8) / 16), dim=1)


class SmallDigits(Digits):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Dropout(0.3), nn.Linear(32 * 16, 64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip


class PixelByPixel(nn.Module):
    """An LSTM that takes a step for each pixel; its state after the last one is the result."""

    def __init__(self, features, width):
        super().__init__()
        self.lstm = nn.LSTM(features, width)

    def forward(self, x):
        _, (state, _) = self.lstm(x.flatten(2).permute(2, 0, 1))  # steps, rows, features
        return state[0]


class DeepDigits(Digits):
    """Far more model than 8x8 digits need: it stands for one that works hard on each row.

    Each of the 64 steps reads all weights of the LSTM again, 1.7 MB of them. A single row
    mostly waits for that memory; the rows of a batch share each reading.
    """

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            PixelByPixel(16, 320), nn.Linear(320, 10),
        )  # fmt: skip


def digits(name, build, split, epochs, least, kept):
    """Trains, exports and checks one of the PyTorch models; `kept` rows go into its fixture."""
    train_x, test_x, train_y, test_y = split
    torch.manual_seed(SEED)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    batches = torch.utils.data.TensorDataset(torch.tensor(train_x), torch.tensor(train_y))
    batches = torch.utils.data.DataLoader(batches, batch_size=32, shuffle=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, epochs=epochs, steps_per_epoch=len(batches))
    for _ in range(epochs):
        for image, label in batches:
            optimizer.zero_grad()
            F.nll_loss(torch.log(model(image) + 1e-7), label).backward()
            optimizer.step()
            schedule.step()

    model.eval()
    with torch.no_grad():
        expected = model(torch.tensor(test_x)).numpy()
    accuracy = np.mean(expected.argmax(axis=1) == test_y)
    print(f"{name}: test accuracy {accuracy:.4f}")
    assert accuracy >= least, f"{name} has to reach {least}"

    file = io.BytesIO()
    torch.onnx.export(
        model,
        (torch.tensor(test_x[:2]),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=["probabilities"],
        dynamic_shapes={"image": {0: torch.export.Dim("batch")}},
        verbose=False,
    ).save(file)
    path = write_model(name, onnx.load_from_string(file.getvalue()))
    verify(path, test_x, {"probabilities": expected})
    write_expected(name, test_x[:kept].astype(int), {"probabilities": expected[:kept]})
    return path


def batching_table(path, rows):
    """Rows a second on one thread for each batch size: the best of five rounds of a second each."""
    runner = session(path, threads=1)
    best = dict.fromkeys((1, 2, 4, 8, 16, 32, 64), float("inf"))
    # Round by round and not size by size, so that a busy moment of the machine hits all sizes alike.
    for size in [*best] * 5:
        feed = {"image": rows[:size]}
        runner.run(None, feed)
        runs, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < 1:
            runner.run(None, feed)
            runs += 1
        best[size] = min(best[size], spent / (runs * size))
    print("batch   ms/row   rows/s")
    for size, seconds in best.items():
        print(f"{size:5} {seconds * 1e3:8.3f} {1 / seconds:8.1f}")


def digits_split():
    """Training and test rows; the test rows are written down too."""
    x, y = load_digits(return_X_y=True)
    split = train_test_split(x.astype(np.float32), y, test_size=0.2, random_state=SEED, stratify=y)
    _, test_x, _, test_y = split
    data = ROOT / "deploy" / "data" / "digits-test.csv"
    data.parent.mkdir(parents=True, exist_ok=True)
    header = ",".join([*(f"p{i}" for i in range(64)), "label"])
    np.savetxt(data, np.column_stack([test_x, test_y]), "%d", ",", header=header, comments="")
    return split


def small_digits():
    digits("digits", SmallDigits, digits_split(), epochs=30, least=0.97, kept=360)


def deep_digits():
    split = digits_split()
    path = digits("digits-deep", DeepDigits, split, epochs=20, least=0.95, kept=40)
    # An exporter that unrolls the steps gives thousands of small nodes instead of one.
    recurrent = [node for node in onnx.load(path).graph.node if node.op_type == "LSTM"]
    assert len(recurrent) == 1, f"digits-deep has {len(recurrent)} LSTM nodes"
    batching_table(path, split[1])


def main():
    models = {"iris": iris, "digits": small_digits, "digits-deep": deep_digits}
    parser = argparse.ArgumentParser(description="Trains the sample models.")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(models)}; all without a name")
    names = parser.parse_args().names or list(models)
    if unknown := [name for name in names if name not in models]:
        parser.error(f"no such model: {', '.join(unknown)}")

    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    # The order of float additions depends on the number of threads, and so do the weights.
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    for name in names:
        models[name]()


if __name__ == "__main__":
    main()
