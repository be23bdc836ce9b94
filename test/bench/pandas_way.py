"""The usual way to run a scikit-learn model over a CSV file: pandas, and a pool of as many processes as there are cores.

    python3 test/bench/pandas_way.py <weights.npz> <input.csv> <output.csv>

Prints the seconds from the first byte read to the last one written; starting Python and importing is not counted.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # one process a core: more threads would only stand in each other's way

import sys
import time
from multiprocessing import Pool

import numpy as np
import pandas as pd
from sklearn.neural_network import MLPClassifier
from sklearn.preprocessing import LabelBinarizer

BATCH = 1000


def load(path):
    """The model as digits_mlp.py has trained it."""
    weights = np.load(path)
    layers = range(3)
    model = MLPClassifier((128, 64))
    model.coefs_ = [weights[f"coefs_{layer}"].astype(np.float64) for layer in layers]
    model.intercepts_ = [weights[f"intercepts_{layer}"].astype(np.float64) for layer in layers]
    model.n_features_in_, model.n_layers_, model.n_outputs_, model.out_activation_ = 64, 4, 10, "softmax"
    model._label_binarizer = LabelBinarizer().fit(range(10))
    model.classes_ = model._label_binarizer.classes_
    return model


def predict(rows):
    return model.predict_proba(rows)


if __name__ == "__main__":
    weights, source, target = sys.argv[1:]
    model = load(weights)
    start = time.perf_counter()
    rows = pd.read_csv(source).to_numpy()
    with Pool(os.cpu_count()) as pool:
        probabilities = np.concatenate(pool.map(predict, [rows[at : at + BATCH] for at in range(0, len(rows), BATCH)]))
    frame = pd.DataFrame(probabilities, columns=[f"probabilities_{digit}" for digit in range(10)])
    frame.insert(0, "row", range(1, len(frame) + 1))
    frame.to_csv(target, index=False)
    print(time.perf_counter() - start)
